// The table of a run's cases: which are shown, and in which order.
showTheme();
const caseRows = document.getElementById("case-rows");
if (caseRows) startCases();

function startCases() {
  const planned = [...caseRows.children];
  const field = (id) => document.getElementById(id);

  function show() {
    const status = field("status").value;
    const tag = field("tag").value;
    const words = field("words").value.trim().toLowerCase();
    let shown = 0;
    for (const row of planned) {
      const fits =
        (!status || row.dataset.status === status) &&
        (!tag || row.dataset.tags.split(" ").includes(tag)) &&
        (!words || row.textContent.toLowerCase().includes(words));
      row.hidden = !fits;
      shown += fits;
    }
    field("cases-shown").textContent = shown + " of " + planned.length + " cases";
  }

  function sort() {
    const by = field("order").value;
    const size = (row) => Number(row.dataset[by]);
    caseRows.append(...(by ? [...planned].sort((a, b) => size(b) - size(a)) : planned));
  }

  for (const id of ["status", "tag"]) field(id).addEventListener("change", show);
  field("words").addEventListener("input", later(show, 120));
  field("order").addEventListener("change", sort);
  show();
}
