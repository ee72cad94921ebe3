// What the page does beyond reading: keys, and the live view. Everything works without it.
"use strict";

(() => {
  const rows = () => [...document.querySelectorAll("[data-row]")];
  let at = -1;

  const mark = (index) => {
    const all = rows();
    if (all.length === 0) return;
    all[at]?.classList.remove("at");
    at = Math.max(0, Math.min(index, all.length - 1));
    const row = all[at];
    row.classList.add("at");
    row.querySelector("a.open, a")?.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("focusin", (event) => {
    const row = event.target.closest?.("[data-row]");
    if (!row) return;
    const all = rows();
    all[at]?.classList.remove("at");
    at = all.indexOf(row);
    row.classList.add("at");
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, textarea, select");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    switch (event.key) {
      case "/": {
        const search = document.getElementById("q");
        if (!search) return;
        search.focus();
        search.select();
        break;
      }
      case "j": mark(at + 1); break;
      case "k": mark(at - 1); break;
      case "u": {
        const back = document.querySelector("[data-back]");
        if (!back) return;
        location.assign(back.href);
        break;
      }
      case "l": document.querySelector("[data-live]")?.click(); break;
      default: return;
    }
    event.preventDefault();
  });

  // Back to the list that the reader came from, with its filters.
  const back = document.querySelector("[data-back]");
  const list = sessionStorage.getItem("hedgerow-list");
  if (back) {
    if (list && list.startsWith("/")) back.href = list;
  } else if (document.querySelector("[data-rows], .grouped")) {
    sessionStorage.setItem("hedgerow-list", location.pathname + location.search);
  }

  // The live view: new rows on top, every two seconds.
  const live = document.querySelector("[data-live]");
  const body = document.querySelector("[data-rows]");
  if (live && body) {
    const MOST = 500;
    let timer = null;
    let newest = live.dataset.newest;
    live.hidden = false;
    live.setAttribute("aria-pressed", "false");
    const poll = async () => {
      const address = live.dataset.live;
      const join = address.includes("?") ? "&" : "?";
      try {
        const answer = await fetch(`${address}${join}after=${encodeURIComponent(newest)}`);
        if (!answer.ok) throw new Error(String(answer.status));
        newest = answer.headers.get("x-newest") ?? newest;
        const text = await answer.text();
        // The server has escaped every field; a parsed document runs no script.
        const parsed = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
        const fresh = [...parsed.querySelectorAll("tr")];
        for (const row of fresh.reverse()) {
          row.classList.add("fresh");
          body.prepend(document.importNode(row, true));
          if (at >= 0) at += 1;
        }
        if (fresh.length > 0) {
          body.parentElement.hidden = false;
          document.querySelector(".records .empty")?.remove();
        }
        while (body.rows.length > MOST) body.lastElementChild.remove();
        live.textContent = "Live";
      } catch (error) {
        live.textContent = "Live (no answer)";
      }
      if (timer !== null) timer = setTimeout(poll, 2000);
    };
    live.addEventListener("click", () => {
      const on = timer === null;
      live.setAttribute("aria-pressed", String(on));
      if (on) {
        timer = 0;
        poll();
      } else {
        clearTimeout(timer);
        timer = null;
      }
    });
  }

  // While the index is being built the page follows by itself.
  if (document.querySelector("[data-building]") && !document.querySelector("#q")?.value) {
    setTimeout(() => location.reload(), 2000);
  }
})();
