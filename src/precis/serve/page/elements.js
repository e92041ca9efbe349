// Making elements. Whatever comes from documents, the model or the server goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element with attributes and children; strings among these become text. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for a drawing. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "click") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Put text into an element only where it has changed, so that screen readers do not hear it again. */
export function put(target, text) {
  if (target.textContent !== text) target.textContent = text;
  target.hidden = text === "";
}

/** Say something to those who do not see the page. */
export function announce(text) {
  byId("said").textContent = text;
}
