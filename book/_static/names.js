// A control's spoken name must contain its visible text. The theme and its
// tooltips set other names after loading, so an observer takes them off again.
(() => {
  const mend = () => {
    document.querySelectorAll(".search-button-field, details.hide summary, .theme-switch-button").forEach((control) => {
      if (control.innerText.trim() && control.hasAttribute("aria-label")) control.removeAttribute("aria-label");
    });
  };
  document.addEventListener("DOMContentLoaded", () => {
    mend();
    new MutationObserver(mend).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["aria-label"] });
  });
})();
