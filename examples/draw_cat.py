"""Draw cat.png, the image of the examples.

python examples/draw_cat.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 224
SKY, GRASS, FUR, DARK, EYE, NOSE = "#bcd9ea", "#8fae6b", "#d98c3f", "#6b3f16", "#f4f1d0", "#c65a6a"


def main() -> None:
    image = Image.new("RGB", (SIZE, SIZE), SKY)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 170, SIZE, SIZE), fill=GRASS)
    draw.arc((140, 110, 210, 205), 200, 80, fill=FUR, width=12)  # tail
    draw.ellipse((62, 110, 162, 212), fill=FUR)
    draw.ellipse((58, 42, 166, 140), fill=FUR)
    for left in (64, 124):
        draw.polygon([(left, 72), (left + 14, 20), (left + 38, 58)], fill=FUR)
        draw.polygon([(left + 8, 64), (left + 15, 34), (left + 28, 58)], fill=NOSE)
    for left in (80, 120):
        draw.ellipse((left, 76, left + 24, 100), fill=EYE)
        draw.ellipse((left + 9, 78, left + 15, 98), fill=DARK)
    draw.polygon([(106, 106), (118, 106), (112, 114)], fill=NOSE)
    draw.arc((98, 108, 112, 122), 20, 160, fill=DARK, width=2)
    draw.arc((112, 108, 126, 122), 20, 160, fill=DARK, width=2)
    for height in (108, 116):
        draw.line((52, height - 6, 92, height), fill=DARK, width=2)
        draw.line((132, height, 172, height - 6), fill=DARK, width=2)
    image.save(Path(__file__).with_name("cat.png"), optimize=True)


if __name__ == "__main__":
    main()
