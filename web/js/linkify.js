// Turns a text into text nodes and, for http and https addresses in it, links that tell their target nothing about us.

import { el } from "./dom.js";

const ADDRESS = /\bhttps?:\/\/[^\s<>"“”]+/giu;
const TRAILING = /[.,:;!?'’)\]}*]+$/u;

export function linkify(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = match[0].replace(TRAILING, "");
    if (!URL.canParse(address)) continue;
    nodes.push(text.slice(from, match.index));
    nodes.push(el("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    from = match.index + address.length;
  }
  nodes.push(text.slice(from));
  return nodes;
}
