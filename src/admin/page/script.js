'use strict';
// Puts newer sections in the place of older ones, as the server sends them. Nothing is computed here.
(() => {
  const state = document.getElementById('live');
  const button = document.getElementById('pause');
  const waiting = new Map();
  let source = null;

  // What somebody is in, or has selected text of, is left alone until they leave it.
  const inUse = (section) => {
    const selection = getSelection();
    return section.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(section, true));
  };

  const replace = () => {
    for (const [id, fresh] of waiting) {
      const old = document.getElementById(id);
      if (!old || inUse(old)) continue;
      const scrolled = old.querySelector('.scroll')?.scrollLeft;
      old.replaceWith(fresh);
      if (scrolled) fresh.querySelector('.scroll')?.scrollTo(scrolled, 0);
      waiting.delete(id);
    }
  };

  const say = (text) => { if (state.textContent !== text) state.textContent = text; };

  const start = () => {
    button.textContent = 'Pause';
    source = new EventSource('/events');
    source.onopen = () => say('Live');
    source.onmessage = (event) => {
      const holder = document.createElement('template');
      holder.innerHTML = event.data;
      const fresh = holder.content.firstElementChild;
      waiting.set(fresh.id, fresh);
      replace();
    };
    source.onerror = () => {
      say(source.readyState === EventSource.CLOSED ? 'Not live: too many viewers, or the proxy has stopped' : 'Connection lost, trying again');
    };
  };

  const stop = () => {
    source.close();
    source = null;
    say('Paused');
    button.textContent = 'Resume';
  };

  button.hidden = false;
  button.onclick = () => (source ? stop() : start());
  start();
})();
