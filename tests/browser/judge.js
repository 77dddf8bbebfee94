// Texts that are cut off by their box, or that lie over one another; a box that scrolls shows all.
() => {
  const isSeen = (e) =>
    e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) &&
    !e.closest(".unseen, .skip, script, style, svg");
  const named = (e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`;
  const hides = (overflow) => overflow === "hidden" || overflow === "clip";

  const cut = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!isSeen(e)) continue;
    const style = getComputedStyle(e);
    if (hides(style.overflowX) && e.scrollWidth > e.clientWidth + 1) cut.push(named(e));
    if (hides(style.overflowY) && e.scrollHeight > e.clientHeight + 1) cut.push(named(e));
  }

  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    // An index may reach into the line of its letter, as it does in print.
    const parent = node.parentElement;
    if (!node.data.trim() || !isSeen(parent) || parent.closest("sub, sup")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects())
      if (box.width > 1 && box.height > 1) boxes.push({ node, box });
  }
  boxes.sort((a, b) => a.box.top - b.box.top);

  const over = [];
  boxes.forEach((one, i) => {
    for (const other of boxes.slice(i + 1)) {
      const a = one.box, b = other.box;
      if (b.top >= a.bottom - 1) break;
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      const leading = 0.34 * Math.min(a.height, b.height); // boxes are taller than their letters
      if (one.node !== other.node && wide > 1 && tall > leading)
        over.push(`${one.node.data.trim()} | ${other.node.data.trim()}`);
    }
  });
  const wide = document.documentElement.scrollWidth - innerWidth;
  return { cut, over, texts: boxes.length, wide };
}
