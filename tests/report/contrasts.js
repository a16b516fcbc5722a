// The texts of the page whose contrast is below WCAG 2's level AA: 4.5, of large text 3.
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const brush = canvas.getContext("2d", { willReadFrequently: true });

// Colours laid over each other, the lowest first, as red, green, blue.
function mixed(colours) {
  brush.clearRect(0, 0, 1, 1);
  for (const colour of colours) {
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
  }
  return [...brush.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function behind(element) {
  const colours = [];
  for (let each = element; each; each = each.parentElement) {
    const style = getComputedStyle(each);
    colours.unshift(style.backgroundColor);
    // Tables of Bootstrap tint their cells by an inner shadow.
    const tint = /^(rgba?\([^)]*\)).*inset$/.exec(style.boxShadow);
    if (tint && style.boxShadow.includes("9999px")) colours.splice(1, 0, tint[1]);
  }
  const point = element.matches(".on-point") && element.parentElement.querySelector("circle");
  if (point) colours.push(getComputedStyle(point).fill);
  return ["white", ...colours];
}

const poor = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
  if (element.closest("script, style, option, .visually-hidden, .disabled, video, audio")) continue;
  const style = getComputedStyle(element);
  const colour = element.closest("svg") ? style.fill : style.color;
  const below = behind(element);
  const [a, b] = [mixed([...below, colour]), mixed(below)].map(luminance);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (contrast < (isLarge ? 3 : 4.5)) {
    poor.add(`${contrast.toFixed(2)} ${element.tagName}.${element.classList}: ${node.data.trim().slice(0, 30)}`);
  }
}
return [...poor];
