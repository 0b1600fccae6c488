// Light or dark: as the reader's machine is set, until the reader chooses; light on paper.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  let chosen = null;
  try {
    chosen = localStorage.getItem("recaffe-theme");
  } catch {
    // A page in a sandbox has no storage; the choice then lasts as long as the page.
  }
  const wanted = () => chosen ?? (system.matches ? "dark" : "light");

  function apply() {
    root.dataset.theme = paper.matches ? "light" : wanted();
    const button = document.getElementById("theme");
    if (button) button.textContent = wanted() === "dark" ? "Light" : "Dark";
  }

  function toggle() {
    chosen = wanted() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("recaffe-theme", chosen);
    } catch {
      // As above.
    }
    apply();
  }

  apply();
  system.addEventListener("change", apply);
  paper.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", toggle);
    apply();
  });
})();
