// Elements without innerHTML: what a feed says is only ever text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`class`, `on…` handlers, null or false: left out) and children (text or elements). */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else attribute(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an attribute, or take it away (null, false), only where that changes something. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const written = value === true ? "" : String(value);
  if (element.getAttribute(name) !== written) element.setAttribute(name, written);
}

/** Set the text, only where it differs: a selection, a reader's place and the layout are left alone otherwise. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/**
 * Make `parent` hold one child for each item, in order, and keep the children of items that stay.
 * `make(item)` gives a new child, `update(child, item)` fills it.
 */
export function keyed(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = old.get(name);
    if (child) old.delete(name);
    else {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
}
