// The few ways in which this page touches the document: find an element, make one from text and attributes, mark one.
// Everything that arrives from the network becomes a text node here; nothing in the page parses markup.

export function byId(id) {
  return document.getElementById(id);
}

/** el("li", { class: "room", "data-state": "open" }, "text or node", ...); absent values (null, false) are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value != null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

/** Writes only what differs, so that screen readers are not told the same thing twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Marks a field as refused, for the eye (style sheet) and for screen readers. */
export function setInvalid(field, invalid) {
  field.setAttribute("aria-invalid", String(invalid));
}
