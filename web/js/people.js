// A colour and an initial for a name: the same on every page, because they are made from the name alone.
// Only the hue depends on the name; lightness and strength come from the style sheet, which keeps them readable in both themes.

const HUES = [18, 42, 78, 118, 150, 178, 205, 232, 258, 284, 312, 345];

export function hueOf(name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return HUES[(hash >>> 0) % HUES.length];
}

export function initialOf(name) {
  return ([...name.trim()][0] ?? "?").toLocaleUpperCase();
}

/** Setting a property is allowed by the content security policy; a style attribute in markup would not be. */
export function paint(node, name) {
  node.style.setProperty("--hue", hueOf(name));
}
