// The chart, and a quiet look for news each minute. Everything else is in the page as it was served.
(() => {
  "use strict";

  const REFRESH_MS = 60_000;
  const GAP_MS = 15 * 60_000; // a longer silence between two readings is a gap in the line
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const charts = new Map(); // figure element -> uPlot

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const pad = (n) => String(n).padStart(2, "0");

  // One array of x values for both lines: undefined where the other line has its point, null where there is a gap.
  const columns = (answer, quantity) => {
    const times = [], values = [];
    answer.readings.time_ms.forEach((t, i) => {
      if (i > 0 && t - times[times.length - 1] * 1000 > GAP_MS) {
        times.push(times[times.length - 1] + 1);
        values.push(null);
      }
      times.push(t / 1000);
      values.push(answer.readings[quantity][i]);
    });
    const starts = answer.hours.hour_start_ms.map((t) => t / 1000);
    const means = answer.hours[quantity].slice();
    starts.push(starts[starts.length - 1] + 3600);
    means.push(null);
    // A step must reach the end of its hour before a gap begins: repeat the mean there.
    const x = [], y = [];
    starts.forEach((t, i) => {
      if (i > 0 && means[i] === null && means[i - 1] !== null) {
        x.push(t - 0.001);
        y.push(means[i - 1]);
      }
      x.push(t);
      y.push(means[i]);
    });
    return uPlot.join([[times, values], [x, y]]);
  };

  const options = (figure, width) => {
    const quiet = colour("--quiet"), line = colour("--line");
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    const shown = (u, v) => (v === null || v === undefined ? "–" : v.toFixed(1));
    return {
      width,
      height: Math.round(Math.min(280, Math.max(200, width * 0.32))),
      tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
      scales: { y: { range: (u, low, high) => [Math.min(0, low ?? 0), Math.max(10, (high ?? 0) * 1.08)] } },
      axes: [
        {
          ...axis,
          space: 56,
          incrs: [3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400],
          values: (u, splits) =>
            splits.map((s) => {
              const at = new Date(s * 1000);
              return at.getUTCHours() ? `${pad(at.getUTCHours())}:00` : `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
            }),
        },
        { ...axis, size: 44 },
      ],
      series: [
        { label: "UTC", value: (u, s) => (s == null ? "–" : new Date(s * 1000).toISOString().slice(0, 16).replace("T", " ")) },
        { label: "each reading", stroke: colour("--thin"), width: 1, points: { show: false }, value: shown },
        { label: "hour, mean", stroke: colour("--accent"), width: 2.5, points: { show: false }, value: shown, paths: uPlot.paths.stepped({ align: 1 }) },
      ],
    };
  };

  const draw = async (figure) => {
    const { kit, quantity } = figure.dataset;
    const query = new URLSearchParams({ kit, quantity, hours: "48" });
    const response = await fetch(`/api/v1/series?${query}`);
    if (!response.ok) return;
    const data = columns(await response.json(), quantity);
    const known = charts.get(figure);
    if (known) {
      known.setData(data);
      return;
    }
    const plot = figure.querySelector(".plot");
    const chart = new uPlot(options(figure, plot.clientWidth), data, (u, ready) => {
      plot.replaceChildren(u.root);
      ready();
    });
    charts.set(figure, chart);
    figure.dataset.drawn = "";
  };

  const drawAll = () => Promise.allSettled([...document.querySelectorAll("[data-chart]")].map(draw));

  const redraw = () => {
    charts.forEach((chart, figure) => {
      chart.destroy();
      charts.delete(figure);
    });
    drawAll();
  };

  const localTimes = () => {
    document.querySelectorAll("time").forEach((element) => {
      element.title = `${element.dateTime} (here ${new Date(element.dateTime).toLocaleString()})`;
    });
  };

  // Parts are replaced one by one, so that an opened table, the scroll position and the charts stay.
  const names = (root) => [...root.querySelectorAll("[data-live]")].map((e) => e.dataset.live).join() +
    [...root.querySelectorAll("[data-chart]")].map((e) => e.dataset.kit).join("\n");

  const refresh = async () => {
    if (document.hidden) return;
    const response = await fetch("/");
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (names(fresh) !== names(document)) {
      location.reload();
      return;
    }
    const parts = fresh.querySelectorAll("[data-live]");
    document.querySelectorAll("[data-live]").forEach((part, i) => part.replaceChildren(...document.adoptNode(parts[i]).childNodes));
    localTimes();
    await drawAll();
  };

  localTimes();
  drawAll();
  setInterval(() => refresh().catch(() => {}), REFRESH_MS);
  document.addEventListener("visibilitychange", () => refresh().catch(() => {}));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => charts.forEach((chart, figure) => {
    const width = figure.querySelector(".plot").clientWidth;
    if (width && width !== chart.width) chart.setSize({ width, height: chart.height });
  })).observe(document.querySelector("main"));
})();
