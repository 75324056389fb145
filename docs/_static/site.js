// What the theme's script leaves undone.

// On a wide screen the menu button folds the sidebar away; the theme would open a dialog there too.
document.querySelector(".primary-toggle")?.addEventListener(
  "click",
  (event) => {
    if (!matchMedia("(min-width: 960px)").matches) return;
    event.stopImmediatePropagation();
    document.getElementById("pst-primary-sidebar").toggleAttribute("hidden");
  },
  { capture: true },
);

// A link to a place on this page would leave the menu open in front of it.
document.getElementById("pst-primary-sidebar-modal").addEventListener("click", (event) => {
  if (event.target.closest("a[href^='#']")) event.currentTarget.close();
});

// One button where the theme has a menu of three modes: to choose what the system prefers is to follow the system.
document.querySelector(".theme-change-button")?.addEventListener(
  "click",
  ({ currentTarget }) => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    currentTarget.dataset.mode = other === system ? "auto" : other;
  },
  { capture: true },
);
