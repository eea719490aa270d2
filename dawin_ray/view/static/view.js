"use strict";
// Keys and shorter addresses; every page works without.

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    const field = document.querySelector("[data-first]");
    if (!field) return;
    field.closest("details")?.setAttribute("open", "");
    field.focus();
    event.preventDefault();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    if (event.target.closest(".scroll")) return; // wide tables scroll
    const step = event.key === "ArrowRight" ? 1 : -1;
    const tiles = [...document.querySelectorAll(".gallery [data-tile]")];
    const next = tiles[tiles.indexOf(document.activeElement) + step];
    if (tiles.length && (next || step < 0 || document.activeElement !== tiles.at(-1))) {
      (next || tiles[0]).focus();
      event.preventDefault();
    } else {
      document.querySelector(step > 0 ? "a[rel=next]" : "a[rel=prev]")?.click();
    }
  } else if (event.key === "u") {
    document.querySelector("a[rel=up]")?.click();
  }
});

for (const form of document.querySelectorAll("form[data-filter]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (!field.value) field.disabled = true;
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
}

if (matchMedia("(max-width: 40rem)").matches) {
  // the images come first
  for (const part of document.querySelectorAll("details[open]")) part.removeAttribute("open");
}

addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("[disabled]")) field.disabled = false;
});
