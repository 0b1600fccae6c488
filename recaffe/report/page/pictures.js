// Pictures that stand in the page once and are shown more often; and the dialog that shows a few of them.
const recaffe = (() => {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const dialog = document.getElementById("behind");
  const [title, note, grid] = ["title", "note", "pictures"].map((name) =>
    document.getElementById(`behind-${name}`),
  );

  function source(number) {
    return document.getElementById(`picture-${number}`)?.src ?? data.pictures[number];
  }

  for (const image of document.querySelectorAll("img[data-same]")) image.src = source(image.dataset.same);

  function figure([number, path, confidence]) {
    const made = document.createElement("figure");
    const code = source(number);
    const image = document.createElement(code ? "img" : "span");
    if (code) {
      image.src = code;
      image.alt = path;
    } else {
      image.className = "gone";
      image.textContent = "no longer readable";
    }
    const caption = document.createElement("figcaption");
    caption.textContent = `${path} (${confidence.toFixed(2)})`;
    made.append(image, caption);
    return made;
  }

  // Show `found`, as [number, path, confidence], out of `count` pictures.
  function show(heading, found, count) {
    title.textContent = heading;
    const missing = found.length < count ? ` Shown here: ${found.length}; predictions.csv has all.` : "";
    note.textContent = `${count} picture${count === 1 ? "" : "s"}, with the net's confidence.${missing}`;
    grid.replaceChildren(...found.map(figure));
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return { data, show };
})();
