// Draws [data-chart] from its JSON with the page's own fonts and colours, in both schemes.
// One colour for one thing everywhere: models keep their place by cost, and places keep their colour.
const light = ["#1d6a86", "#b98a2f", "#7a5fa8", "#4c8a63", "#b0584a", "#6d7c83"];
const dark = ["#6db9d6", "#dcb466", "#b59ce0", "#84c59c", "#e2938a", "#9aa8ae"];

const token = (name) => {
  const probe = document.createElement("span");
  probe.className = `probe-${name}`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  // Plotly reads sRGB only; the tokens are OKLCH.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
  return `rgb(${r},${g},${b})`;
};

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

const draw = (element) => {
  const data = JSON.parse(document.getElementById(element.dataset.chart).textContent);
  const colours = isDark() ? dark : light, ink = token("ink-3"), line = token("line");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink };
  const many = data.series.length > 1;
  const plain = (name) => name.replace(/[<>&]/g, "") || "–";
  const traces = data.series.map((series, n) => ({
    type: "bar", name: plain(series.name), x: data.x, y: series.y, marker: { color: colours[n % colours.length] },
    hovertemplate: `${data.prefix ?? ""}%{y:.4~f}<extra>${plain(series.name)}</extra>`,
  }));
  const layout = {
    barmode: "stack", bargap: 0.25, font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 8, b: 32 },
    xaxis: { type: "date", fixedrange: true, showgrid: false, linecolor: line, tickfont: font, tickformat: data.ticks ?? "%d %b" },
    yaxis: { fixedrange: true, gridcolor: line, zeroline: false, tickfont: font, tickprefix: data.prefix ?? "", rangemode: "tozero", nticks: 5, exponentformat: "none" },
    showlegend: many, legend: { orientation: "h", y: -0.16, font }, hovermode: "x unified",
    hoverlabel: { bgcolor: token("sheet"), bordercolor: line, font: { ...font, color: token("ink") } }, dragmode: false,
  };
  Plotly.react(element, traces, layout, { displayModeBar: false, responsive: true, staticPlot: false });
};

const all = () => { for (const element of document.querySelectorAll("[data-chart]")) draw(element); };
all();
document.addEventListener("pilothouse:theme", all);
document.addEventListener("htmx:afterSettle", all);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
