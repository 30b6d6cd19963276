"use strict";
// The page reads well without this: it adds the reader's language, numbers under the pointer, and copying.
const zh = document.getElementById("language-zh");
const language = () => { document.documentElement.lang = zh.checked ? "zh" : "en"; };
if ((navigator.language || "").startsWith("zh")) zh.checked = true;
for (const choice of document.getElementsByName("language")) choice.addEventListener("change", language);
language();

for (const chart of document.querySelectorAll("svg.chart")) {
  const points = JSON.parse(chart.dataset.points);
  const pointer = chart.querySelector(".pointer");
  const [line, circle, text] = pointer.children;
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const [x, y, value, step, time] = points.reduce((a, b) => (Math.abs(a[0] - at) < Math.abs(b[0] - at) ? a : b));
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", y);
    text.setAttribute("x", x);
    text.setAttribute("text-anchor", x > chart.viewBox.baseVal.width / 2 ? "end" : "start");
    text.textContent = zh.checked ? `${value} · 第 ${step} 步 · ${time}` : `${value} · step ${step} · ${time}`;
    pointer.removeAttribute("hidden");
  });
  chart.addEventListener("pointerleave", () => pointer.setAttribute("hidden", ""));
}

for (const pre of navigator.clipboard ? document.querySelectorAll(".command pre") : []) {
  const box = document.createElement("div");
  const button = document.createElement("button");
  box.className = "copyable";
  const label = () => { button.textContent = zh.checked ? "复制" : "copy"; };
  label();
  for (const choice of document.getElementsByName("language")) choice.addEventListener("change", label);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.textContent);
    button.textContent = "✓";
    setTimeout(label, 1200);
  });
  pre.replaceWith(box);
  box.append(pre, button);
}
