// A page without maps: its tables can be sorted, its texts copied.

byId("theme").onchange = (event) => (document.documentElement.dataset.theme = event.target.value);
sortTables();
copyButtons();
keepLinks();
