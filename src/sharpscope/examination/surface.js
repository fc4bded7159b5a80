// A loss surface that can be turned: drag, or the arrow keys. Quads are drawn from the farthest to the nearest.
(() => {
  const canvas = document.getElementById("surface-3d");
  const data = JSON.parse(document.getElementById("surface-data").textContent);
  const view = canvas.getContext("2d");
  const colours = ["#fde725", "#90d743", "#35b779", "#21918c", "#31688e", "#443983", "#440154"];
  const rgb = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  const finite = data.z.flat().filter((v) => v !== null);
  const low = Math.min(...finite), high = Math.max(...finite), span = high - low || 1;
  let turn = -0.6, tilt = 0.95;

  const colour = (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (rgb.length - 1), left = Math.min(Math.floor(at), rgb.length - 2);
    const mix = rgb[left].map((v, i) => Math.round(v + (at - left) * (rgb[left + 1][i] - v)));
    return `rgb(${mix.join(",")})`;
  };

  const draw = () => {
    const scale = window.devicePixelRatio || 1, wide = canvas.clientWidth, tall = canvas.clientHeight;
    canvas.width = wide * scale;
    canvas.height = tall * scale;
    view.setTransform(scale, 0, 0, scale, 0, 0);
    view.clearRect(0, 0, wide, tall);
    // A corner is √2 from the centre whatever the turn, so at this size no part leaves the canvas.
    const [flat, steep] = [Math.cos(tilt), Math.sin(tilt)], reach = Math.SQRT2;
    const size = 0.97 * Math.min(wide / (2 * reach), tall / (2 * reach * flat + steep));
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    const project = (i, j) => {
      const z = data.z[j][i];
      if (z === null) return null;
      const x = (2 * i) / (data.columns - 1) - 1, y = (2 * j) / (data.rows - 1) - 1, h = (z - low) / span;
      const depth = x * s + y * c, across = x * c - y * s;
      return { x: wide / 2 + size * across, y: tall / 2 + size * (depth * flat - (h - 0.5) * steep), depth, h };
    };
    const quads = [];
    for (let j = 0; j + 1 < data.rows; j++) {
      for (let i = 0; i + 1 < data.columns; i++) {
        const corners = [project(i, j), project(i + 1, j), project(i + 1, j + 1), project(i, j + 1)];
        if (corners.every(Boolean)) {
          quads.push({ corners, depth: corners.reduce((sum, p) => sum + p.depth, 0), h: corners.reduce((sum, p) => sum + p.h, 0) / 4 });
        }
      }
    }
    quads.sort((a, b) => a.depth - b.depth);
    for (const { corners, h } of quads) {
      view.beginPath();
      corners.forEach((p, n) => (n ? view.lineTo(p.x, p.y) : view.moveTo(p.x, p.y)));
      view.closePath();
      view.fillStyle = colour(h);
      view.fill();
      view.strokeStyle = "rgba(20, 23, 29, 0.35)";
      view.lineWidth = 0.6;
      view.stroke();
    }
    const here = project((data.columns - 1) / 2, (data.rows - 1) / 2);
    if (here) {
      view.beginPath();
      view.arc(here.x, here.y, 4, 0, 2 * Math.PI);
      view.fillStyle = "#d55e00";
      view.fill();
    }
    canvas.dataset.turn = turn.toFixed(3);
  };

  const turnBy = (across, down) => {
    turn += across;
    tilt = Math.min(Math.max(tilt + down, 0.1), 1.5);
    requestAnimationFrame(draw);
  };
  let held = null;
  canvas.addEventListener("pointerdown", (e) => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (!held) return;
    turnBy((e.clientX - held[0]) / 150, (held[1] - e.clientY) / 250);
    held = [e.clientX, e.clientY];
  });
  canvas.addEventListener("pointerup", () => { held = null; });
  const keys = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] };
  canvas.addEventListener("keydown", (e) => {
    if (!keys[e.key]) return;
    e.preventDefault();
    turnBy(...keys[e.key]);
  });
  new ResizeObserver(draw).observe(canvas);
  draw();
})();
