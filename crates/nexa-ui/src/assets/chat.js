// The chat: a conversation that lives in this tab, and answers that appear as a server writes them. All text of models and
// people is set as text, never as markup. The server is asked through this program, which alone knows its key.
'use strict';

(() => {
  const POLL_MS = 2000;
  const NEAR_PX = 120;
  const find = (selector) => document.querySelector(selector);
  const token = find('#chat').dataset.token;
  const chosen = () => `server=${encodeURIComponent(find('#server').value)}`;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // ---- the conversation, kept in this tab ---------------------------------------------------------------------------

  // A turn is {role, content} and, for an answer, {facts, problem, done}.
  const kept = JSON.parse(sessionStorage.getItem('chat') || '{}');
  let turns = kept.turns || [];
  let running = null;
  let editing = null;

  function keep() {
    const sampling = Object.fromEntries(fields().map((field) => [field.name, field.value]));
    try {
      sessionStorage.setItem('chat', JSON.stringify({ turns, system: find('#system').value, sampling, draft: find('#message').value }));
    } catch {
      // The browser's store is full: the conversation goes on, and is lost with the page.
    }
  }

  const fields = () => [...document.querySelectorAll('[data-sampling]')];

  function request() {
    const body = { model, messages: [], stream: true, stream_options: { include_usage: true } };
    if (!body.model) delete body.model;
    if (find('#system').value.trim()) body.messages.push({ role: 'system', content: find('#system').value });
    for (const { role, content } of turns) if (content || role === 'user') body.messages.push({ role, content });
    for (const field of fields()) if (field.value !== '') body[field.name] = Number(field.value);
    return body;
  }

  // ---- what a server serves -----------------------------------------------------------------------------------------

  let model = null;
  let timer = 0;

  async function look() {
    clearTimeout(timer);
    const asked = find('#server').value;
    let served;
    try {
      const answer = await fetch(`/chat/model?${chosen()}`);
      served = await answer.json();
      if (!answer.ok) served = { status: 'down', error: said(served, answer.status), hint: served.hint };
    } catch {
      served = { status: 'down', error: 'the dashboards do not answer', hint: 'start `nexa ui` again and load the page again' };
    }
    if (find('#server').value !== asked) return;
    model = served.model?.name || null;
    show(served);
    // What is not there yet may come; what is there is looked at again when it fails.
    if (served.status !== 'ok') timer = setTimeout(() => (document.hidden ? again() : look()), POLL_MS);
  }

  function again() {
    document.addEventListener('visibilitychange', look, { once: true });
  }

  function show(served) {
    const state = make('span', { className: `state ${served.status}`, textContent: served.status === 'ok' ? 'ready' : served.status });
    const facts = make('dl', { className: 'facts' });
    const fact = (name, value) => value && facts.append(make('dt', { textContent: name }), make('dd', {}, value));
    const { model: it, error, hint } = served;
    fact('state', state);
    if (it) {
      fact('model', it.url ? make('a', { href: it.url, textContent: it.name }) : it.name);
      if (it.artifact && it.artifact !== it.name) fact('artifact', it.url ? make('a', { href: it.url, textContent: it.artifact }) : it.artifact);
      fact('format', [it.architecture, it.format].filter(Boolean).join(', '));
      fact('context', it.context_length && `${it.context_length.toLocaleString('en')} tokens`);
      fact('size', it.parameters && `${short(it.parameters)} parameters`);
      fact('device', it.device);
      if (it.weights_hash) fact('weights', make('code', { textContent: it.weights_hash.replace('blake3:', '').slice(0, 12), title: it.weights_hash }));
    }
    const parts = [facts];
    if (error) parts.push(problem({ message: error, hint }));
    find('#served').replaceChildren(...parts);
  }

  function short(count) {
    for (const [size, unit] of [[1e9, 'B'], [1e6, 'M'], [1e3, 'k']]) if (count >= size) return `${(count / size).toPrecision(3)} ${unit}`;
    return String(count);
  }

  // What an answer says is wrong: in OpenAI's form, in the form of these pages, or in any other.
  function said(body, status) {
    const error = body?.error;
    return error?.message || (typeof error === 'string' && error) || body?.message || `the server answers ${status}`;
  }

  // ---- what a turn looks like ---------------------------------------------------------------------------------------

  function problem({ message, hint }) {
    const place = make('div', { className: 'problems' }, make('p', { textContent: `error: ${message}` }));
    place.setAttribute('role', 'alert');
    if (hint) place.append(make('p', { textContent: `hint: ${hint}` }));
    return place;
  }

  function button(text, title, work) {
    const element = make('button', { type: 'button', textContent: text, title });
    element.addEventListener('click', work);
    return element;
  }

  function view(turn, index) {
    const place = make('article', { className: 'turn' });
    place.dataset.role = turn.role;
    const isAnswer = turn.role === 'assistant';
    const head = make('div', { className: 'turn-head' }, make('strong', { textContent: isAnswer ? 'assistant' : 'you' }));
    place.append(head);
    if (editing === index) {
      place.append(editor(turn, index));
      return place;
    }
    if (turn !== running?.turn) {
      if (turn.content) head.append(button('copy', 'copy the text', (event) => copy(turn.content, event.currentTarget)));
      if (!running) {
        if (turn.content) head.append(button('edit', isAnswer ? 'change what it said' : 'change and ask again from here', () => edit(index)));
        if (isAnswer) head.append(button('regenerate', 'ask again from here; with a seed the answer is the same', () => regenerate(index)));
      }
    }
    const text = document.createTextNode(turn.content);
    place.append(make('pre', { className: 'text' }, text));
    if (turn.problem) place.append(problem(turn.problem));
    const note = facts(turn);
    if (note) place.append(make('p', { className: 'facts-line', textContent: note }));
    if (turn === running?.turn) {
      place.classList.add('writing');
      running.text = text;
    }
    return place;
  }

  function facts({ role, facts: known, done, problem: failed }) {
    if (role !== 'assistant' || (!known && done)) return '';
    if (!known) return running || failed ? '' : 'the page was left before the answer was complete';
    const parts = [];
    if (known.prompt) parts.push(`${known.prompt} prompt tokens${known.cached ? ` (${known.cached} cached)` : ''}`);
    if (known.completion) parts.push(`${known.completion} tokens`);
    if (known.rate) parts.push(`${known.rate.toFixed(1)} tokens/s`);
    if (known.first !== undefined) parts.push(`first after ${Math.round(known.first)} ms`);
    if (known.reason === 'length') parts.push('cut off: the most tokens, or the context, are reached');
    else if (known.reason && known.reason !== 'stop') parts.push(known.reason);
    return parts.join(' · ');
  }

  function draw() {
    find('#turns').replaceChildren(...turns.map(view));
    find('#turns').setAttribute('aria-busy', String(Boolean(running)));
    find('#send').disabled = Boolean(running);
    find('#send').hidden = Boolean(running);
    find('#stop').hidden = !running;
    keep();
  }

  const isNearEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - NEAR_PX;
  const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);

  async function copy(text, place) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Only pages of this machine or behind TLS may write to the clipboard; the old way works everywhere.
      const field = make('textarea', { value: text, className: 'hidden' });
      document.body.append(field);
      field.select();
      document.execCommand('copy');
      field.remove();
    }
    place.textContent = 'copied';
    setTimeout(() => { place.textContent = 'copy'; }, 1500);
  }

  // ---- edits --------------------------------------------------------------------------------------------------------

  function edit(index) {
    editing = index;
    draw();
    const field = find('.turn .editing');
    fit(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  function editor(turn, index) {
    const isAnswer = turn.role === 'assistant';
    const field = make('textarea', { className: 'editing', value: turn.content });
    field.setAttribute('aria-label', 'edited text');
    const cancel = () => { editing = null; draw(); find('#message').focus(); };
    const accept = () => {
      const text = field.value;
      if (!text.trim()) return;
      editing = null;
      turns[index] = isAnswer ? { role: turn.role, content: text, facts: { reason: 'edited' }, done: true } : { role: 'user', content: text };
      if (isAnswer) { draw(); return; }
      turns.length = index + 1;
      ask();
    };
    field.addEventListener('input', () => fit(field));
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') { event.stopPropagation(); cancel(); }
      else if (isSending(event)) { event.preventDefault(); accept(); }
    });
    return make('div', {}, field, make('div', { className: 'bar-below' },
      button(isAnswer ? 'keep' : 'send', isAnswer ? 'what the model will be told that it said' : 'ask again from here', accept),
      button('cancel', 'leave it as it was', cancel)));
  }

  function regenerate(index) {
    turns.length = index;
    ask();
  }

  // Enter that picks a word of an input method does not send.
  const isSending = (event) => event.key === 'Enter' && !event.shiftKey && !event.isComposing;

  function fit(field) {
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight + 2}px`;
  }

  // ---- asking -------------------------------------------------------------------------------------------------------

  function send() {
    const text = find('#message').value;
    if (running || !text.trim()) return;
    turns.push({ role: 'user', content: text });
    find('#message').value = '';
    fit(find('#message'));
    ask();
  }

  async function ask() {
    editing = null;
    const body = request();
    const turn = { role: 'assistant', content: '', done: false };
    turns.push(turn);
    const own = { turn, stop: new AbortController(), text: null, begun: performance.now(), first: 0, last: 0, pieces: 0, usage: null, reason: null };
    running = own;
    draw();
    toEnd();
    try {
      await stream(body, own);
      if (!own.reason) throw { message: 'the answer broke off before it was complete' };
    } catch (error) {
      if (own.stop.signal.aborted) own.reason = 'stopped';
      else turn.problem = explained(error);
    }
    turn.facts = measured(own);
    turn.done = true;
    if (running === own) running = null;
    const follows = isNearEnd();
    draw();
    if (follows) toEnd();
    if (turn.problem) look();
  }

  // A failure of `fetch` itself is a TypeError whose words differ by browser.
  function explained(error) {
    if (!(error instanceof TypeError)) return { message: error.message, hint: error.hint };
    return { message: 'the answer broke off: the connection was lost', hint: 'see whether `nexa ui` and the server still run' };
  }

  function measured({ begun, first, last, pieces, usage, reason }) {
    const completion = usage?.completion_tokens ?? pieces;
    const seconds = (last - first) / 1000;
    return {
      prompt: usage?.prompt_tokens,
      cached: usage?.prompt_tokens_details?.cached_tokens,
      completion,
      rate: completion > 1 && seconds > 0 ? (completion - 1) / seconds : undefined,
      first: first ? first - begun : undefined,
      reason,
    };
  }

  async function stream(body, own) {
    const answer = await fetch(`/chat/completions?${chosen()}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-nexa-token': token },
      body: JSON.stringify(body),
      signal: own.stop.signal,
    });
    if (!answer.ok || !answer.headers.get('content-type').startsWith('text/event-stream')) throw await refusal(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) if (line.startsWith('data:')) take(line.slice(5).trim(), own);
    }
  }

  async function refusal(answer) {
    const text = await answer.text();
    let body = null;
    try { body = JSON.parse(text); } catch { body = { message: text.slice(0, 300) }; }
    const wait = answer.headers.get('retry-after');
    const hint = body?.hint || (wait && `the server says to try again in ${wait} s`);
    return { message: said(body, answer.status), hint };
  }

  function take(data, own) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw { message: said(chunk) };
    if (chunk.usage) own.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (choice?.finish_reason) own.reason = choice.finish_reason;
    const piece = choice?.delta?.content;
    if (!piece) return;
    own.last = performance.now();
    own.first ||= own.last;
    own.pieces += 1;
    own.turn.content += piece;
    const follows = isNearEnd();
    own.text.appendData(piece);
    if (follows) toEnd();
  }

  // ---- start --------------------------------------------------------------------------------------------------------

  const stop = () => running?.stop.abort();
  const message = find('#message');

  find('#system').value = kept.system || '';
  for (const field of fields()) field.value = kept.sampling?.[field.name] || '';
  message.value = kept.draft || '';
  find('#compose').addEventListener('submit', (event) => { event.preventDefault(); send(); });
  find('#settings').addEventListener('submit', (event) => event.preventDefault());
  find('#settings').addEventListener('input', keep);
  find('#stop').addEventListener('click', stop);
  find('#fresh').addEventListener('click', () => { stop(); turns = []; editing = null; draw(); message.focus(); });
  find('#server').addEventListener('change', () => {
    history.replaceState(null, '', `?${chosen()}`);
    model = null;
    look();
  });
  message.addEventListener('input', () => { fit(message); keep(); });
  message.addEventListener('keydown', (event) => {
    const last = turns.findLastIndex((turn) => turn.role === 'user');
    if (isSending(event)) { event.preventDefault(); send(); }
    else if (event.key === 'ArrowUp' && !message.value && last >= 0 && !running) { event.preventDefault(); edit(last); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !running || find('dialog[open]')) return;
    event.stopImmediatePropagation();
    stop();
  }, true);
  addEventListener('pagehide', keep);
  fit(message);
  draw();
  toEnd();
  look();
  message.focus();
})();
