// All that the pages do in the browser: theme, keys, and the curves of runs. Pages are complete without it.
'use strict';

// ---- theme: as the system, light, dark; before anything is drawn ------------------------------------------------

const THEMES = ['system', 'light', 'dark'];
const theme = () => localStorage.getItem('theme') || 'system';

function setTheme(name) {
  localStorage.setItem('theme', name);
  document.documentElement.dataset.theme = name;
  const button = document.getElementById('theme');
  if (button) button.textContent = name;
  document.dispatchEvent(new Event('themechange'));
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
setTheme(theme());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => document.dispatchEvent(new Event('themechange')));

// ---- keys -------------------------------------------------------------------------------------------------------

const PLACES = { o: '/', r: '/runs', l: '/leaderboard', d: '/data', v: '/review', h: '/chat', c: '/cost' };
let going = false;

function moveRow(step) {
  const rows = [...document.querySelectorAll('tr.row')];
  if (!rows.length) {
    document.querySelector(step > 0 ? 'a[rel=next]' : 'a[rel=prev]')?.click();
    return;
  }
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = now < 0 ? (step > 0 ? 0 : rows.length - 1) : now + step;
  if (next >= rows.length) document.querySelector('a[rel=next]')?.click();
  else if (next < 0) document.querySelector('a[rel=prev]')?.click();
  else rows[next].querySelector('a, input')?.focus();
}

function onKey(event) {
  const field = event.target.matches('input:not([type=checkbox]):not([type=range]), select, textarea');
  if (event.key === 'Escape' && field) event.target.blur();
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (going) {
    going = false;
    if (PLACES[event.key]) location.href = PLACES[event.key];
    return;
  }
  const help = document.getElementById('help');
  const keys = {
    '?': () => (help.open ? help.close() : help.showModal()),
    '/': () => document.querySelector('input[type=search], form.filter select, #message')?.focus(),
    j: () => moveRow(1),
    k: () => moveRow(-1),
    t: nextTheme,
    g: () => { going = true; },
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

// ---- curves -----------------------------------------------------------------------------------------------------

const COLOURS = ['#3b82f6', '#f97316', '#10b981', '#e11d48', '#8b5cf6', '#ca8a04', '#06b6d4', '#ec4899', '#84cc16', '#94a3b8'];
const MAX_LIVE_POINTS = 4000;

const FEW_POINTS = 30;

// Exponential moving average, each point weighted by how far it is from the one before, whose start is not drawn
// towards 0; of logarithms where the axis is logarithmic.
function smooth(x, y, weight, log) {
  const typical = (x[x.length - 1] - x[0]) / (x.length - 1) || 1;
  let sum = 0;
  let mass = 0;
  let last = null;
  return y.map((value, index) => {
    const usable = log ? (value > 0 ? Math.log(value) : null) : value;
    if (usable === null) return null;
    const distance = last === null ? 0 : x[index] - last;
    const keep = distance > 0 ? weight ** (distance / typical) : weight;
    last = x[index];
    sum = keep * sum + (1 - keep) * usable;
    mass = keep * mass + (1 - keep);
    return log ? Math.exp(sum / mass) : sum / mass;
  });
}

// Where a logarithmic axis is labelled: at 1, 2, 5 over a few decades, else at the powers of ten.
function logTick(traces) {
  const values = traces.flatMap((trace) => trace.y).filter((value) => value > 0);
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, 0]);
  return high / low < 1000 ? 'D2' : 1;
}

class Chart {
  constructor(key, board) {
    this.key = key;
    this.board = board;
    this.log = board.logKeys.has(key);
    this.visible = false;
    this.figure = document.createElement('figure');
    this.figure.className = 'chart';
    const caption = document.createElement('figcaption');
    caption.textContent = key;
    this.button = document.createElement('button');
    this.button.type = 'button';
    this.button.textContent = 'log y';
    this.button.setAttribute('aria-pressed', String(this.log));
    this.button.addEventListener('click', () => {
      this.log = !this.log;
      this.button.setAttribute('aria-pressed', String(this.log));
      board.keepLog(key, this.log);
      this.draw();
    });
    caption.append(this.button);
    this.plot = document.createElement('div');
    this.plot.className = 'plot';
    this.figure.append(caption, this.plot);
    board.grid.append(this.figure);
    board.watcher.observe(this.figure);
  }

  traces() {
    const several = this.board.runs.length > 1;
    return this.board.runs.flatMap((run, index) => {
      const points = run.curves.get(this.key);
      if (!points) return [];
      const colour = COLOURS[index % COLOURS.length];
      const x = points.map((point) => point[0]);
      const y = points.map((point) => point[1]);
      const weight = this.board.weight;
      const marker = { size: points.length < FEW_POINTS ? 5 : 3, color: colour };
      const mode = points.length < FEW_POINTS ? 'lines+markers' : 'lines';
      const smoothed = weight > 0 && points.length >= FEW_POINTS;
      const raw = { x, y, mode, marker, line: { color: colour, width: 1.5 }, opacity: smoothed ? 0.3 : 1, name: run.id,
        showlegend: several && !smoothed, hoverinfo: smoothed ? 'skip' : 'all', type: 'scatter' };
      if (!smoothed) return [raw];
      const line = { x, y: smooth(x, y, weight, this.log), mode: 'lines', line: { color: colour, width: 2 }, name: run.id,
        customdata: y, hovertemplate: '%{y:.5g}  raw %{customdata:.5g}', showlegend: several, type: 'scatter' };
      return [raw, line];
    });
  }

  draw() {
    if (!this.visible || document.hidden) { this.stale = true; return; }
    this.stale = false;
    const style = getComputedStyle(this.figure);
    const axis = { gridcolor: style.borderTopColor, zerolinecolor: style.borderTopColor, linecolor: style.borderTopColor,
      automargin: true };
    const traces = this.traces();
    Plotly.react(this.plot, traces, {
      height: this.board.runs.length > 1 ? 300 : 240,
      margin: { l: 48, r: 12, t: 8, b: 36 },
      paper_bgcolor: 'rgba(0,0,0,0)',
      plot_bgcolor: 'rgba(0,0,0,0)',
      font: { color: style.color, size: 11, family: style.fontFamily },
      xaxis: { ...axis, title: { text: 'step', standoff: 4 } },
      yaxis: { ...axis, type: this.log ? 'log' : 'linear', dtick: this.log ? logTick(traces) : null, exponentformat: 'e' },
      hovermode: 'x unified',
      hoverlabel: { bgcolor: style.backgroundColor, bordercolor: style.borderTopColor, font: { color: style.color } },
      legend: { orientation: 'h', y: -0.25, font: { size: 10 } },
      uirevision: this.log ? 'log' : 'linear',
    }, { displayModeBar: false, responsive: true });
  }
}

// The charts of a page: one for each metric, every run a line in it. What is seen is kept in the address.
class Board {
  constructor(section) {
    this.section = section;
    this.grid = section.querySelector('.grid');
    this.runs = section.dataset.runs.split(' ').map((id) => ({ id, curves: new Map(), cursor: 0 }));
    this.charts = new Map();
    const query = new URLSearchParams(location.search);
    this.logKeys = new Set(query.getAll('log'));
    this.slider = document.getElementById('smoothing');
    if (query.has('smoothing')) this.slider.value = query.get('smoothing');
    this.slider.addEventListener('input', () => { this.showWeight(); this.keep('smoothing', this.slider.value); this.drawAll(); });
    this.showWeight();
    // A chart is drawn once it comes into view: a run may have hundreds.
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const chart = [...this.charts.values()].find((one) => one.figure === entry.target);
        if (!chart) continue;
        chart.visible = entry.isIntersecting;
        if (chart.visible && chart.stale !== false) chart.draw();
      }
    }, { rootMargin: '200px' });
    document.addEventListener('themechange', () => this.drawAll());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.drawAll(); });
  }

  showWeight() {
    this.weight = Number(this.slider.value);
    this.slider.nextElementSibling.textContent = this.weight.toFixed(2);
  }

  keep(name, value) {
    const url = new URL(location);
    url.searchParams.set(name, value);
    history.replaceState(null, '', url);
  }

  keepLog(key, on) {
    if (on) this.logKeys.add(key); else this.logKeys.delete(key);
    const url = new URL(location);
    url.searchParams.delete('log');
    for (const one of this.logKeys) url.searchParams.append('log', one);
    history.replaceState(null, '', url);
  }

  async load(run) {
    const answer = await fetch(`/runs/${encodeURIComponent(run.id)}/curves.json`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    run.cursor = body.cursor;
    run.curves = new Map(body.curves.map((curve) => [curve.key, curve.points]));
  }

  async start() {
    try {
      await Promise.all(this.runs.map((run) => this.load(run)));
    } catch (error) {
      this.grid.textContent = `The curves could not be loaded: ${error.message}`;
      return;
    }
    this.drawAll();
    if (this.section.hasAttribute('data-live')) this.follow(this.runs[0]);
  }

  drawAll() {
    for (const run of this.runs) {
      for (const key of run.curves.keys()) if (!this.charts.has(key)) this.charts.set(key, new Chart(key, this));
    }
    for (const chart of this.charts.values()) chart.draw();
  }

  follow(run) {
    const source = new EventSource(`/runs/${encodeURIComponent(run.id)}/events?from=${run.cursor}`);
    source.addEventListener('reset', () => { run.curves = new Map(); });
    source.addEventListener('rows', async (event) => {
      for (const row of JSON.parse(event.data)) {
        for (const [key, value] of Object.entries(row.values)) {
          if (!run.curves.has(key)) run.curves.set(key, []);
          run.curves.get(key).push([row.x, value]);
        }
      }
      // The server thins what has become long; the stream goes on from what it then says.
      if ([...run.curves.values()].some((points) => points.length > MAX_LIVE_POINTS)) {
        source.close();
        await this.load(run).then(() => this.follow(run), () => this.follow(run));
      }
      this.drawAll();
    });
    source.addEventListener('progress', (event) => showProgress(JSON.parse(event.data)));
    source.addEventListener('end', (event) => {
      source.close();
      showEnd(JSON.parse(event.data).status);
    });
  }
}

function showProgress(news) {
  const place = document.getElementById('progress');
  if (!place) return;
  const bar = place.querySelector('progress');
  if (news.total) { bar.max = news.total; bar.value = news.done; }
  const of = news.total ? ` of ${news.total.toLocaleString('en')}` : '';
  place.querySelector('span').textContent = `${news.done.toLocaleString('en')}${of} ${news.unit}  ${news.note || ''}`;
}

function showEnd(status) {
  const place = document.getElementById('status');
  const word = document.createElement('span');
  word.className = `status ${status}`;
  word.textContent = status;
  const link = document.createElement('a');
  link.href = location.href;
  link.className = 'small';
  link.textContent = 'show its final facts';
  place?.replaceChildren(word, ' ', link);
  document.getElementById('progress')?.remove();
}

// ---- start ------------------------------------------------------------------------------------------------------

document.addEventListener('DOMContentLoaded', () => {
  setTheme(theme());
  document.getElementById('theme').addEventListener('click', nextTheme);
  document.getElementById('help-open').addEventListener('click', () => document.getElementById('help').showModal());
  document.addEventListener('keydown', onKey);
  // An empty field need not stand in the address.
  for (const form of document.querySelectorAll('form.filter')) {
    form.addEventListener('formdata', (event) => {
      for (const [name, value] of [...event.formData]) if (value === '') event.formData.delete(name);
    });
    for (const select of form.querySelectorAll('select:not([name=column])')) select.addEventListener('change', () => form.requestSubmit());
  }
  const charts = document.getElementById('charts');
  if (charts) new Board(charts).start();
});
