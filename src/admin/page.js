// Fetches the changing part anew while the page is seen, and filters what it shows. The server writes every word of it.
"use strict";
const main = document.getElementById("main");
const filter = document.getElementById("filter");
const live = document.getElementById("live");

function apply() {
  const wanted = filter.value.trim().toLowerCase();
  for (const pool of main.querySelectorAll("[data-pool]")) {
    const whole = pool.dataset.pool.toLowerCase().includes(wanted);
    let any = false;
    for (const row of pool.querySelectorAll("[data-server]")) {
      row.hidden = !whole && !row.dataset.server.toLowerCase().includes(wanted);
      any = any || !row.hidden;
    }
    pool.hidden = !whole && !any;
  }
}

let shown = "";

async function refresh() {
  // Who marks text to copy it keeps their marks.
  if (!document.hidden && getSelection().isCollapsed) {
    try {
      const answer = await fetch("/page", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      live.textContent = "live";
      // An alarm that stands is not read out again.
      const alarms = [...main.querySelectorAll(".alarm")].map((alarm) => alarm.textContent).join();
      if (text === shown) return setTimeout(refresh, 2000);
      shown = text;
      // Who is scrolling or reading along with the keyboard keeps their place.
      const places = [...main.querySelectorAll(".scroll")];
      const focused = places.indexOf(document.activeElement);
      const lefts = places.map((place) => place.scrollLeft);
      main.innerHTML = text;
      const now = [...main.querySelectorAll(".alarm")];
      if (now.map((alarm) => alarm.textContent).join() === alarms) now.forEach((alarm) => alarm.removeAttribute("role"));
      [...main.querySelectorAll(".scroll")].forEach((place, at) => {
        place.scrollLeft = lefts[at] || 0;
        if (at === focused) place.focus({ preventScroll: true });
      });
      apply();
    } catch (error) {
      live.textContent = "no answer: what you see is old";
    }
  }
  setTimeout(refresh, 2000);
}

filter.addEventListener("input", apply);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "Escape" && document.activeElement === filter) {
    filter.value = "";
    apply();
  }
});
refresh();
