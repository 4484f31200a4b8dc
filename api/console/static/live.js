// The live tail: puts each fact on top of the list, as text. Without a script the page shows the last ones, and a link.
(() => {
  const MOST = 200;
  const list = document.getElementById("facts");
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  let source = null;
  let last = list.dataset.position;

  function show(words, fact) {
    const item = document.createElement("li");
    if (fact) {
      const when = document.createElement("span");
      when.className = "when";
      when.textContent = fact.at;
      item.append(when);
    }
    const what = document.createElement(fact && fact.href ? "a" : "span");
    if (fact && fact.href) what.href = fact.href;
    what.textContent = words;
    item.append(what);
    if (fact && fact.detail) {
      const detail = document.createElement("span");
      detail.className = "small";
      detail.textContent = ` ${fact.detail}`;
      item.append(detail);
    }
    list.prepend(item);
    while (list.children.length > MOST) list.lastElementChild.remove();
  }

  function open() {
    source = new EventSource(`/console/live/facts?after=${encodeURIComponent(last)}`);
    source.addEventListener("open", () => { state.textContent = "Live: facts appear as they are committed."; });
    source.addEventListener("fact", (event) => {
      last = event.lastEventId;
      const fact = JSON.parse(event.data);
      show(fact.words, fact);
    });
    source.addEventListener("skipped", (event) => {
      last = event.lastEventId;
      show("Some facts are left out here: there were too many at once.", null);
    });
    source.addEventListener("error", () => {
      state.textContent = source.readyState === EventSource.CLOSED
        ? "It has ended. Reload the page; you may have to sign in again."
        : "The connection was lost; it is tried again.";
    });
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (source) {
      source.close();
      source = null;
      state.textContent = "Paused.";
      pause.textContent = "Go on";
    } else {
      open();
      pause.textContent = "Pause";
    }
  });
  window.addEventListener("pagehide", () => { if (source) source.close(); });
  open();
})();
