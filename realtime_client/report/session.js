// Puts the parts of a session's page together.
showTheme();
const about = dataOf("about");
const conversation = new Conversation(document.getElementById("turns"));
if (document.getElementById("wave")) startSound();
if (document.getElementById("turns")) startTurns();
if (document.getElementById("event-rows")) startEvents();

function startEvents() {
  // The list is at the end of the page: it is made when the page has come to rest, or before when it is in sight.
  let begun = false;
  const begin = () => {
    if (!begun) new EventTable();
    begun = true;
  };
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && begin()).observe(
    document.getElementById("events"),
  );
  window.addEventListener("load", () => setTimeout(begin, 0));
}

function startTurns() {
  const who = document.getElementById("who");
  const words = document.getElementById("words");
  const told = document.getElementById("turns-shown");
  const filter = () => {
    const shown = conversation.filter(who.value, words.value.trim().toLowerCase());
    told.textContent = shown + " of " + conversation.turns.length + " turns";
  };
  who.addEventListener("change", filter);
  words.addEventListener("input", later(filter, 120));
  filter();
}

function startSound() {
  const canvas = document.getElementById("wave");
  const overview = document.getElementById("overview");
  const play = document.getElementById("play");
  const time = document.getElementById("time");
  const box = document.getElementById("player");
  new ResizeObserver(() => {
    // So that the player covers no heading that a link leads to.
    const sticks = getComputedStyle(box).position === "sticky";
    const covered = sticks ? box.offsetHeight + 12 + "px" : "1rem";
    document.documentElement.style.setProperty("scroll-padding-top", covered);
  }).observe(box);
  const wave = new Waveform(canvas, about, bytesOf("peaks"));
  const player = new Player(about, () => draw());
  let frame = 0;

  function draw() {
    const at = player.position();
    const turn = conversation.mark(at, player.playing);
    if (player.playing) wave.follow(at);
    wave.draw(at, turn);
    play.textContent = player.playing ? "Stop" : "Play";
    const text = clockText(at) + " / " + clockText(about.seconds);
    if (time.textContent !== text) {
      time.textContent = text;
      canvas.setAttribute("aria-valuetext", clockText(at) + " of " + clockText(about.seconds));
    }
    canvas.setAttribute("aria-valuenow", at.toFixed(2));
    drawOverview(at);
    cancelAnimationFrame(frame);
    if (player.playing) frame = requestAnimationFrame(draw);
  }

  function drawOverview(at) {
    const x = (seconds) => (seconds / about.seconds) * 1000;
    const whole = wave.stretch >= about.seconds;
    const view = document.getElementById("view");
    overview.toggleAttribute("hidden", whole);
    view.setAttribute("x", x(wave.from));
    view.setAttribute("width", x(wave.stretch));
    for (const end of ["x1", "x2"]) document.getElementById("head").setAttribute(end, x(at));
  }

  function seek(seconds) {
    player.seek(seconds);
    wave.follow(player.position());
    draw();
  }

  play.addEventListener("click", () => player.toggle());
  ["left", "right"].forEach((id, side) => {
    const button = document.getElementById(id);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      player.hearSide(side, on);
    });
  });
  document.getElementById("wider").addEventListener("click", () => zoom(0.5));
  document.getElementById("narrower").addEventListener("click", () => zoom(2));
  function zoom(factor) {
    wave.zoom(factor);
    wave.follow(player.position());
    draw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    seek(wave.secondsAt(event.clientX));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) seek(wave.secondsAt(event.clientX));
  });
  overview.addEventListener("click", (event) => {
    const box = overview.getBoundingClientRect();
    const to = ((event.clientX - box.left) / box.width) * about.seconds;
    wave.look(to - wave.stretch / 2);
    seek(to);
  });

  function hear(node) {
    player.play(Number(node.dataset.start), Number(node.dataset.end));
  }

  document.addEventListener("click", (event) => {
    const sentence = event.target.closest(".s");
    if (sentence && !String(window.getSelection())) hear(sentence);
    const button = event.target.closest("button.hear");
    if (button) hear(button.closest(".turn"));
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.matches("input, select, textarea")) return;
    const key = event.key;
    const onSlider = target === canvas;
    if (target.matches(".s") && (key === "Enter" || key === " ")) hear(target);
    else if (key === " " && !target.matches("button, summary, a")) player.toggle();
    else if (!onSlider && conversation.key(event)) event.stopPropagation();
    else if (target.closest("details, .wide, pre")) return;
    else if (key === "ArrowRight" || (onSlider && key === "ArrowUp")) seek(player.position() + (event.shiftKey ? 1 : 5));
    else if (key === "ArrowLeft" || (onSlider && key === "ArrowDown")) seek(player.position() - (event.shiftKey ? 1 : 5));
    else if (onSlider && key === "PageDown") seek(player.position() + 30);
    else if (onSlider && key === "PageUp") seek(player.position() - 30);
    else if (onSlider && key === "Home") seek(0);
    else if (onSlider && key === "End") seek(about.seconds);
    else if (key === "+" || key === "=") zoom(0.5);
    else if (key === "-") zoom(2);
    else return;
    event.preventDefault();
  });

  new ResizeObserver(() => draw()).observe(canvas);
  document.addEventListener("themechange", () => {
    wave.readColours();
    draw();
  });
  draw();
}
