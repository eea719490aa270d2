// The pictures that are seen, each with its texts: what they say, where they are, how large, and
// their contrast (WCAG 2.1) to what is behind them in the picture, or to the page's background.
// axe-core takes `color` for `fill`, and knows nothing of shapes.
(() => {
  const parts = (colour) => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const over = (top, below) => below.map((v, i) => top[3] * top[i] + (1 - top[3]) * v);
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour[3] === 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const inside = (box, frame) => box.left >= frame.left - 1 && box.right <= frame.right + 1
    && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;

  const corners = (t) => {  // of the text itself, be it turned
    const { x, y, width, height } = t.getBBox(), matrix = t.getScreenCTM();
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
      .map(([a, b]) => new DOMPoint(a, b).matrixTransform(matrix)).map((p) => [p.x, p.y]);
  };

  const text = (t, frame, page, shapes, scale) => {
    const box = t.getBoundingClientRect(), style = getComputedStyle(t);
    const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    let ground = page;
    for (const [b, s] of shapes) {
      if (b.left <= x && x <= b.right && b.top <= y && y <= b.bottom) {
        const fill = parts(s.fill);
        ground = over([...fill.slice(0, 3), fill[3] * s.fillOpacity * s.opacity], ground);
      }
    }
    return {
      says: t.textContent, size: parseFloat(style.fontSize) * scale, inside: inside(box, frame),
      corners: corners(t),
      contrast: contrast(parts(style.fill).slice(0, 3), ground),
    };
  };

  return [...document.querySelectorAll("svg[role=img]")]
    .filter((svg) => svg.checkVisibility() && svg.getClientRects().length)
    .map((svg) => {
      const frame = svg.getBoundingClientRect(), page = behind(svg);
      const scale = frame.width / (svg.viewBox.baseVal.width || frame.width);
      const shapes = [...svg.querySelectorAll("path, rect, polygon, circle")]
        .filter((e) => !e.closest("defs, clipPath"))
        .map((e) => [e.getBoundingClientRect(), getComputedStyle(e)])
        .filter(([, style]) => style.fill !== "none");
      return {
        label: svg.getAttribute("aria-label"),
        texts: [...svg.querySelectorAll("text")].map((t) => text(t, frame, page, shapes, scale)),
      };
    });
})()
