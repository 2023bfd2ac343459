/** Small line charts in SVG, with their meaning in words for those who do not see them. */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 160;
const HEIGHT = 40;

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Points "x,y x,y …" of a series in the chart's box; a flat series lies on the floor. */
export function linePoints(values, width = WIDTH, height = HEIGHT) {
  const top = Math.max(...values, 0);
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  return values.map((value, i) => {
    const y = top > 0 ? height - 2 - (value / top) * (height - 4) : height - 2;
    return `${(i * step).toFixed(1)},${y.toFixed(1)}`;
  });
}

export class Sparkline {
  constructor() {
    this.element = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      class: "spark",
      "aria-hidden": "true", // the tile beside it says the value in text
    });
    this.area = svg("path", { class: "spark-area" });
    this.line = svg("polyline", { class: "spark-line", fill: "none", "vector-effect": "non-scaling-stroke" });
    this.element.append(this.area, this.line);
  }

  draw(values) {
    // One value, or nothing but zeros, is a line on the floor: the box is never empty.
    const points = linePoints(values.length > 1 ? values : [values[0] || 0, values[0] || 0]);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("d", `M0,${HEIGHT} L${points.join(" L")} L${WIDTH},${HEIGHT} Z`);
  }
}
