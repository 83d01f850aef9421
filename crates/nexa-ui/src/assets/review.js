// The review of rows: one key for each decision, drafts that survive a reload and a kill, and what an edit changes.
// The page is a form that works without it. Whatever is sent is answered by the next page, which takes this one's place.
'use strict';

(() => {
  const DRAFT_AFTER_MS = 500;
  const MAX_TABLE = 4e6;
  const KEYS = { a: 'accept', Enter: 'accept', r: 'reject', Backspace: 'reject', e: 'edit', x: 'regenerate', u: 'undo' };
  const find = (selector) => document.querySelector(selector);
  const form = () => find('#decide');

  // ---- one thing after another: keys that are pressed while a decision is under way wait for the next row ---------

  let line = Promise.resolve();
  const then = (work) => { line = line.then(work).catch((error) => fail(String(error.message || error))); };

  function fail(message) {
    const place = find('#failed');
    if (!place) return;
    place.replaceChildren(...[`error: ${message}`, 'Nothing is lost: what you typed is kept in this browser. Try again.'].map((text) => {
      const paragraph = document.createElement('p');
      paragraph.textContent = text;
      return paragraph;
    }));
    place.hidden = false;
    place.scrollIntoView({ block: 'nearest' });
  }

  async function ask(url, options) {
    try {
      return await fetch(url, options);
    } catch {
      throw new Error('the dashboards do not answer; start `nexa ui` again and load the page again');
    }
  }

  // The buttons are named `action`, which hides the form's own property of that name.
  async function send(body, options) {
    const answer = await ask(form().getAttribute('action'), { method: 'POST', body, ...options });
    if (answer.ok) return answer;
    const text = await answer.text();
    const page = new DOMParser().parseFromString(text, 'text/html');
    const said = [...page.querySelectorAll('.problems p')].map((one) => one.textContent).join(' ');
    throw new Error((said || text.slice(0, 200)).replace(/^error: /, ''));
  }

  // ---- drafts: in the browser at once, in the lab soon after -------------------------------------------------------

  let timer = 0;
  const name = () => `review:${location.pathname}:${form().elements.reviewer.value}:${form().elements.row.value}`;
  const typed = () => ({ text: form().elements.text.value, reason: form().elements.reason.value });
  const say = (text) => { const place = find('#saved'); if (place) place.textContent = text; };

  function onTyped() {
    localStorage.setItem(name(), JSON.stringify(typed()));
    say('');
    clearTimeout(timer);
    timer = setTimeout(() => then(keepDraft), DRAFT_AFTER_MS);
    showChanges();
  }

  function draftBody() {
    const body = new URLSearchParams(new FormData(form()));
    body.set('action', 'draft');
    return body;
  }

  async function keepDraft() {
    clearTimeout(timer);
    timer = 0;
    if (!form()) return;
    const [key, kept] = [name(), localStorage.getItem(name())];
    if (kept === null) return;
    await send(draftBody());
    // What was typed in the meantime is not kept yet.
    if (localStorage.getItem(key) === kept) localStorage.removeItem(key);
    find('#failed').hidden = true;
    say('draft kept');
  }

  function restore() {
    const kept = JSON.parse(localStorage.getItem(name()) || 'null');
    if (!kept) return;
    const { text, reason } = form().elements;
    if (kept.text === text.value && kept.reason === reason.value) { localStorage.removeItem(name()); return; }
    text.value = kept.text;
    reason.value = kept.reason;
    say('restored from this browser');
    then(keepDraft);
  }

  // ---- decisions ---------------------------------------------------------------------------------------------------

  async function decide(action) {
    if (!form()) return;
    if (action === 'edit' && find('#editor').hidden) { openEditor(); return; }
    clearTimeout(timer);
    const body = new URLSearchParams(new FormData(form()));
    body.set('action', action);
    const key = name();
    const answer = await send(body);
    if (action !== 'undo') localStorage.removeItem(key);
    show(await answer.text(), answer.url);
  }

  async function go(direction) {
    await keepDraft();
    const link = find(`#record a[rel=${direction}]`);
    if (!link) return;
    const answer = await ask(link.href);
    show(await answer.text(), link.href);
  }

  function show(text, url) {
    const page = new DOMParser().parseFromString(text, 'text/html');
    find('#main').replaceWith(page.querySelector('#main'));
    find('footer').replaceWith(page.querySelector('footer'));
    document.title = page.title;
    history.pushState(null, '', url);
    scrollTo(0, 0);
    start();
  }

  // ---- the editor and what it changes ------------------------------------------------------------------------------

  function openEditor() {
    find('#editor').hidden = false;
    const text = form().elements.text;
    text.style.height = `${Math.max(find('#completion').offsetHeight + 16, 120)}px`;
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
    showChanges();
  }

  // The longest common subsequence of words between what both begin and end with.
  function changes(before, after) {
    const [a, b] = [before, after].map((text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || []);
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
    let end = 0;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
    const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
    const middle = x.length * y.length > MAX_TABLE
      ? [['del', x.join('')], ['ins', y.join('')]]
      : aligned(x, y);
    return [['', a.slice(0, start).join('')], ...middle, ['', a.slice(a.length - end).join('')]].filter(([, text]) => text);
  }

  function aligned(x, y) {
    const width = y.length + 1;
    const best = new Uint32Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i -= 1) {
      for (let j = y.length - 1; j >= 0; j -= 1) {
        best[i * width + j] = x[i] === y[j]
          ? best[(i + 1) * width + j + 1] + 1
          : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
      }
    }
    const parts = [];
    const add = (kind, word) => {
      const last = parts[parts.length - 1];
      if (last && last[0] === kind) last[1] += word; else parts.push([kind, word]);
    };
    let [i, j] = [0, 0];
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { add('', x[i]); i += 1; j += 1; }
      else if (j === y.length || (i < x.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) { add('del', x[i]); i += 1; }
      else { add('ins', y[j]); j += 1; }
    }
    return parts;
  }

  function fillDiff(place, before, after) {
    place.replaceChildren(...changes(before, after).map(([kind, text]) => {
      if (!kind) return document.createTextNode(text);
      const element = document.createElement(kind);
      element.textContent = text;
      return element;
    }));
  }

  function showChanges() {
    const [before, after] = [find('#completion').textContent, form().elements.text.value];
    find('#changes').hidden = before === after;
    find('#reset').hidden = before === after;
    if (before !== after) fillDiff(find('#diff'), before, after);
  }

  // ---- keys --------------------------------------------------------------------------------------------------------

  function onKey(event) {
    if (!form() || find('dialog[open]')) return;
    const { target, key } = event;
    const control = event.ctrlKey || event.metaKey;
    const own = () => { event.preventDefault(); event.stopImmediatePropagation(); };
    if (form().contains(target) && target.matches('textarea, input')) {
      if (control && key === 'Enter') { own(); then(() => decide(find('#editor').hidden ? 'accept' : 'edit')); }
      else if (control && key.toLowerCase() === 's') { own(); then(keepDraft); }
      else if (key === 'Enter' && target.matches('input')) { own(); target.blur(); }
      else if (key === 'Escape') {
        own();
        target.blur();
        if (find('#changes').hidden) find('#editor').hidden = true;
      }
      return;
    }
    if (target.matches('input, select, textarea') || control || event.altKey) return;
    if (target.matches('button, a, summary') && key === 'Enter') return;
    const moves = { ArrowRight: 'next', ArrowLeft: 'prev', j: 'next', k: 'prev' };
    if (KEYS[key]) { own(); then(() => decide(KEYS[key])); }
    else if (moves[key]) { own(); then(() => go(moves[key])); }
    else if (key === 'n') { own(); form().elements.reason.focus(); }
  }

  // ---- start -------------------------------------------------------------------------------------------------------

  function start() {
    rememberReviewer();
    if (!form()) return;
    const { text, reason } = form().elements;
    text.addEventListener('input', onTyped);
    reason.addEventListener('input', onTyped);
    find('#reset').addEventListener('click', () => { text.value = find('#completion').textContent; onTyped(); });
    form().addEventListener('submit', (event) => {
      event.preventDefault();
      const action = event.submitter?.value || 'accept';
      then(() => decide(action));
    });
    for (const place of document.querySelectorAll('[data-edit]')) fillDiff(place, find('#completion').textContent, place.textContent);
    restore();
    const changed = text.value !== find('#completion').textContent;
    find('#editor').hidden = !changed;
    if (changed) openEditor();
    document.activeElement?.blur();
  }

  function rememberReviewer() {
    const now = new URLSearchParams(location.search).get('reviewer');
    if (now) localStorage.setItem('reviewer', now);
    const field = find('#reviewer');
    if (field && !field.value) field.value = localStorage.getItem('reviewer') || '';
  }

  document.addEventListener('keydown', onKey, true);
  addEventListener('popstate', () => location.reload());
  // A page that is left keeps its draft, as far as the browser lets it.
  addEventListener('pagehide', () => {
    if (form() && localStorage.getItem(name()) !== null) send(draftBody(), { keepalive: true }).catch(() => {});
  });
  start();
})();
