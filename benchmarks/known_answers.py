"""Write prompts whose answer rests on a known word, for `attnflow evaluate`.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --seed 0
    .venv/bin/python benchmarks/known_answers.py --out needle.jsonl --needle 400 --each 20

Each line is a prompt with the token that should come next, and the characters on which that token
rests: {"text": ..., "target": " Paris", "span": [15, 21], "foil": " Rome", "family": "capital"}.
The templates are our own, of kinds that the literature uses: knowledge (capitals, facts), retrieval
(key-value lines, who lives where), indirect objects (Wang et al. 2023), agreement across an
attractor (Linzen et al. 2016), and a distance between evidence and answer (Vafa et al. 2021).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path


@dataclass(frozen=True)
class KnownAnswer:
    """A prompt, the token that should come next, and the characters on which it rests.

    Attributes:
        text: The prompt.
        target: The answer, with its leading space: one token of most vocabularies.
        span: Half-open characters of the evidence.
        foil: An answer of the same kind that is wrong.
        family: The kind of prompt.
    """

    text: str
    target: str
    span: tuple[int, int]
    foil: str
    family: str


CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid", "Germany": "Berlin",
    "Russia": "Moscow", "England": "London", "Greece": "Athens", "Egypt": "Cairo",
    "Ireland": "Dublin", "Austria": "Vienna", "Portugal": "Lisbon", "Cuba": "Havana",
    "China": "Beijing", "Sweden": "Stockholm", "Norway": "Oslo", "Peru": "Lima",
    "Poland": "Warsaw", "Turkey": "Ankara", "Iran": "Tehran", "Iraq": "Baghdad",
    "Belgium": "Brussels", "Hungary": "Budapest", "Thailand": "Bangkok", "Kenya": "Nairobi",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Canada": "Ottawa", "Chile": "Santiago",
    "India": "New", "Israel": "Jerusalem", "Lebanon": "Beirut", "Syria": "Damascus",
}  # fmt: skip
_CAPITAL_TEMPLATES = (
    "The capital of {} is",
    "The capital city of {} is called",
    "We flew to {} last week and spent three days in its capital,",
    "Every student knows that the capital of {} is",
    "If you travel to {}, do not miss its capital,",
)
_LONG_TEMPLATES = (
    "When my plane landed in {}, it was raining hard. I had slept badly and I was very tired. "
    "A friend met me at the airport and drove me to the capital,",
    "My sister has just moved to {}. She sent me a long letter about her new job, the weather and "
    "her neighbours. She says that she likes the capital,",
    "I grew up in {}. My parents had a small shop there, and on Sundays we went for long walks. "
    "When I was ten we moved to the capital,",
)
_FACTS = (
    ("The author of Romeo and Juliet is William", "Romeo and Juliet", " Shakespeare", " James"),
    ("The Eiffel Tower is in the city of", "Eiffel Tower", " Paris", " Rome"),
    ("The Colosseum is in the city of", "Colosseum", " Rome", " Paris"),
    ("Big Ben is a famous clock in the city of", "Big Ben", " London", " Rome"),
    ("The Kremlin is in the city of", "Kremlin", " Moscow", " London"),
    ("The Statue of Liberty stands in the city of New", "Statue of Liberty", " York", " Orleans"),
    ("The Golden Gate Bridge is in the city of San", "Golden Gate Bridge", " Francisco", " Diego"),
    ("The theory of relativity was developed by Albert", "relativity", " Einstein", " Camus"),
    ("The theory of evolution was developed by Charles", "evolution", " Darwin", " Dickens"),
    ("The opposite of hot is", "hot", " cold", " small"),
    ("The opposite of big is", "big", " small", " cold"),
    ("The opposite of up is", "up", " down", " out"),
    ("The opposite of left is", "left", " right", " down"),
    ("The chemical symbol for oxygen is the letter", "oxygen", " O", " H"),
    ("The chemical symbol for hydrogen is the letter", "hydrogen", " H", " O"),
    ("The largest planet in the solar system is called", "largest", " Jupiter", " Mars"),
    ("The red planet in the solar system is called", "red", " Mars", " Jupiter"),
    ("The past tense of the verb go is", "go", " went", " ran"),
    ("A baby dog is called a", "dog", " puppy", " kitten"),
    ("A baby cat is called a", "cat", " kitten", " puppy"),
    ("Bees make a sweet food that is called", "Bees", " honey", " milk"),
    ("Cows give us a white drink that is called", "Cows", " milk", " honey"),
    ("The first president of the United States was George", "first president", " Washington",
     " Bush"),
    ("The first man on the moon was Neil", "moon", " Armstrong", " Young"),
)  # fmt: skip
_NAMES = (
    "Mary", "John", "Tom", "Anna", "James", "Sarah", "Paul", "Emma", "David", "Laura", "Peter",
    "Alice", "Mark", "Lucy", "Simon", "Kate",
)  # fmt: skip
_PLACES = ("store", "park", "school", "office", "station", "beach", "market", "library")
_OBJECTS = ("drink", "book", "ring", "letter", "key", "ticket", "phone", "coat")
_IOI_TEMPLATES = (
    "When {a} and {b} went to the {place}, {b} gave a {thing} to",
    "After {a} and {b} met at the {place}, {b} handed the {thing} to",
    "Then, {a} and {b} had a long talk at the {place}. Afterwards {b} gave a {thing} to",
)
_NOUNS = (
    ("key", "keys"), ("dog", "dogs"), ("car", "cars"), ("book", "books"), ("child", "children"),
    ("teacher", "teachers"), ("house", "houses"), ("picture", "pictures"), ("door", "doors"),
    ("friend", "friends"), ("window", "windows"), ("letter", "letters"),
)  # fmt: skip
_BETWEEN = ("near", "behind", "next to", "above", "in front of")
_KEYS = ("red", "blue", "green", "black", "white", "yellow", "brown", "pink", "gray", "orange")
_CITIES = ("Paris", "Rome", "London", "Berlin", "Madrid", "Tokyo", "Moscow", "Boston", "Chicago")


_FILLER = (
    "The road along the river was quiet in the morning.",
    "Most of the shops open at nine and close at six.",
    "He put the plates back on the shelf and turned off the light.",
    "In winter the lake freezes, and children skate on it.",
    "The train was late again, so they had a cup of tea.",
    "A new bridge has been planned for many years.",
    "She painted the fence and left it to dry in the sun.",
    "The meeting was moved to the larger room upstairs.",
    "Nobody knew who had left the window open.",
    "The garden needs water when it has not rained for a week.",
    "Two dogs ran across the field after the same ball.",
    "The teacher read the last page slowly and closed the book.",
    "There is a small museum behind the old town hall.",
    "They walked home and talked about the film.",
    "The soup was too hot to eat, and everyone waited.",
    "Clouds came over the hills, but the rain stayed away.",
)


def _at(text: str, evidence: str, last: bool = False) -> tuple[int, int]:
    start = text.rindex(evidence) if last else text.index(evidence)
    return start, start + len(evidence)


def _knowledge(rng: random.Random, templates: tuple[str, ...], family: str) -> KnownAnswer:
    (country, city), (_, foil) = rng.sample(sorted(CAPITALS.items()), 2)
    text = rng.choice(templates).format(country)
    return KnownAnswer(text, f" {city}", _at(text, country), f" {foil}", family)


def capital(rng: random.Random) -> KnownAnswer:
    """The capital of a country."""
    return _knowledge(rng, _CAPITAL_TEMPLATES, "capital")


def distant(rng: random.Random) -> KnownAnswer:
    """The capital of a country that was named some sentences before."""
    return _knowledge(rng, _LONG_TEMPLATES, "distant")


def fact(rng: random.Random) -> KnownAnswer:
    """A fact that the model has learnt."""
    text, evidence, target, foil = rng.choice(_FACTS)
    return KnownAnswer(text, target, _at(text, evidence), foil, "fact")


def indirect_object(rng: random.Random) -> KnownAnswer:
    """The one of two people who is not named again."""
    a, b = rng.sample(_NAMES, 2)
    template = rng.choice(_IOI_TEMPLATES)
    text = template.format(a=a, b=b, place=rng.choice(_PLACES), thing=rng.choice(_OBJECTS))
    return KnownAnswer(text, f" {a}", _at(text, a), f" {b}", "indirect-object")


def agreement(rng: random.Random) -> KnownAnswer:
    """The number of the subject, across a noun of the other number."""
    subject, attractor = rng.sample(_NOUNS, 2)
    plural = rng.random() < 0.5
    noun = subject[plural]
    text = f"The {noun} {rng.choice(_BETWEEN)} the {attractor[not plural]}"
    verbs = (" are", " is") if plural else (" is", " are")
    return KnownAnswer(text, verbs[0], _at(text, noun), verbs[1], "agreement")


def key_value(rng: random.Random) -> KnownAnswer:
    """The value of a key, from a list of lines."""
    keys = rng.sample(_KEYS, 4)
    values = rng.sample(_CITIES, 4)
    lines = [f"{key}: {value}" for key, value in zip(keys, values, strict=True)]
    i, j = rng.sample(range(4), 2)
    text = "\n".join([*lines, f"{keys[i]}:"])
    return KnownAnswer(text, f" {values[i]}", _at(text, lines[i]), f" {values[j]}", "key-value")


def residence(rng: random.Random) -> KnownAnswer:
    """The city in which a person lives, of three."""
    names, cities = rng.sample(_NAMES, 3), rng.sample(_CITIES, 3)
    i, j = rng.sample(range(3), 2)
    told = [f"{name} lives in {city}." for name, city in zip(names, cities, strict=True)]
    text = " ".join([*told, f"{names[i]} lives in the city of"])
    return KnownAnswer(text, f" {cities[i]}", _at(text, told[i]), f" {cities[j]}", "residence")


def in_context(rng: random.Random) -> KnownAnswer:
    """The capital of a country, after three examples."""
    pairs = rng.sample(sorted(CAPITALS.items()), 4)
    *examples, (country, city) = pairs
    text = "\n".join([*(f"{c} - {d}" for c, d in examples), f"{country} -"])
    return KnownAnswer(text, f" {city}", _at(text, country), f" {examples[0][1]}", "in-context")


def needle(rng: random.Random, words: int) -> KnownAnswer:
    """A city that is named once in so many words of other sentences."""
    city, foil = rng.sample(_CITIES, 2)
    told = f"The secret meeting of the club will be held in the city of {city}."
    filler: list[str] = []
    while sum(len(sentence.split()) for sentence in filler) < words:
        filler.append(rng.choice(_FILLER))
    filler.insert(rng.randrange(len(filler)), told)
    text = " ".join([*filler, "The secret meeting of the club will be held in the city of"])
    start = text.index(told) + told.index(city)
    return KnownAnswer(text, f" {city}", (start, start + len(city)), f" {foil}", "needle")


FAMILIES: dict[str, Callable[[random.Random], KnownAnswer]] = {
    "capital": capital,
    "distant": distant,
    "fact": fact,
    "indirect-object": indirect_object,
    "agreement": agreement,
    "key-value": key_value,
    "residence": residence,
    "in-context": in_context,
}


def prompts(family: str, seed: int) -> Iterator[KnownAnswer]:
    """Yield prompts of a family, each once, until no new one comes."""
    rng, seen, misses = random.Random(f"{family} {seed}"), set(), 0
    while misses < 1000:
        prompt = FAMILIES[family](rng)
        misses = misses + 1 if prompt.text in seen else 0
        if not misses:
            seen.add(prompt.text)
            yield prompt


def prompts_for_explainers(description: str | None) -> argparse.Namespace:
    """Arguments of a benchmark that explains such prompts: `prompts`, read, and `model`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("file", type=Path, help="prompts, as this script writes them")
    parser.add_argument("--model", required=True)
    parser.add_argument("--every", type=int, default=1, help="take every so many prompts")
    args = parser.parse_args()
    lines = args.file.read_text(encoding="utf-8").splitlines()[:: args.every]
    args.prompts = [KnownAnswer(**json.loads(line)) for line in lines]
    return args


def evidence(prompt: KnownAnswer, offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """True at tokens, given by their characters, that overlap with the prompt's evidence."""
    start, stop = prompt.span
    return [first < stop and last > start for first, last in offsets]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--each", type=int, default=40, help="prompts of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--needle", type=int, metavar="WORDS",
        help="one sentence with the answer in so many words of others, instead")  # fmt: skip
    args = parser.parse_args()
    if args.needle is not None:
        rng = random.Random(args.seed)
        written = [needle(rng, args.needle) for _ in range(args.each)]
    else:
        written = [p for name in FAMILIES for p in islice(prompts(name, args.seed), args.each)]
    with args.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(prompt)) + "\n" for prompt in written)


if __name__ == "__main__":
    main()
