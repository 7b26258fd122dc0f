"""What every page carries inside itself: its style and its few lines of JavaScript."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #333; background: #fff; max-width: 1160px; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td { max-width: 22rem; overflow-wrap: break-word; }
td.number { white-space: nowrap; }
th { border-bottom: 2px solid #999; white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid #0072B2; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
img { max-width: 100%; height: auto; display: block; } figure { margin: 1.5rem 0; }
figcaption, .quiet { color: #666; font-size: .9rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .6rem; font-size: .82rem;
  margin: .3rem 0; }
pre.result { white-space: pre; overflow-x: auto; }
.verdict { border-left: 4px solid #0072B2; padding: .2rem 1rem; margin: 0; } .bad { border-color: #D55E00; }
"""

# A click on a heading sorts by its column, a second one the other way round. Cells without a number come last.
SCRIPT = """
"use strict";
document.querySelectorAll("table.sortable").forEach(function (table) {
  var body = table.tBodies[0];
  table.querySelectorAll("th button").forEach(function (button, column) {
    button.addEventListener("click", function () {
      var head = button.parentNode, down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      var rows = Array.prototype.slice.call(body.rows).map(function (row, place) {
        var text = row.cells[column].getAttribute("data-value");
        return {row: row, place: place, text: text, number: text === "" ? NaN : Number(text)};
      });
      var numeric = rows.every(function (item) { return item.text === "" || !isNaN(item.number); });
      rows.sort(function (a, b) {
        if ((a.text === "") !== (b.text === "")) { return a.text === "" ? 1 : -1; }
        var order = numeric ? a.number - b.number : a.text < b.text ? -1 : a.text > b.text ? 1 : 0;
        return (down ? -order : order) || a.place - b.place;
      });
      rows.forEach(function (item) { body.appendChild(item.row); });
    });
  });
});
"""
