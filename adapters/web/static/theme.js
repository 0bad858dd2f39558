// Set the chosen theme before anything is drawn; without a choice the system's holds.
(function () {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (e) { /* storage may be forbidden: the system's theme then holds */ }
})();
