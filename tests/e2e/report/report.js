// Charts take the page's colours, and follow the system from light to dark and back.
function paint() {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue("--" + name).trim();
  for (const chart of document.querySelectorAll(".chart")) {
    const change = { "font.color": colour("ink"), "hoverlabel.bgcolor": colour("card") };
    for (const axis of Object.keys(chart.layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      change[axis + ".gridcolor"] = colour("line");
      change[axis + ".linecolor"] = colour("line");
      change[axis + ".zerolinecolor"] = colour("line");
    }
    Plotly.relayout(chart, change);
  }
}
for (const chart of document.querySelectorAll(".chart")) {
  const figure = JSON.parse(document.getElementById(chart.id + "-data").textContent);
  Plotly.newPlot(chart, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
}
paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
