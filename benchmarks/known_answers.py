"""Write prompts whose answer rests on a known word, for `attnflow evaluate`.

    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --seed 0
    .venv/bin/python benchmarks/known_answers.py --out prompts.jsonl --kept-by runs/smollm2
    .venv/bin/python benchmarks/known_answers.py --out told.jsonl --families examples chat passage
    .venv/bin/python benchmarks/known_answers.py --out needle.jsonl --needle 400 --each 20
    .venv/bin/python benchmarks/known_answers.py --out needle.jsonl --tokens 1024 \\
        --model runs/smollm2

Each line is a prompt with the token that should come next, and the characters on which that token
rests: {"text": ..., "target": " Paris", "span": [15, 21], "foil": " Rome", "family": "capital"}.
The templates are our own, of kinds that the literature uses: knowledge (capitals, facts), retrieval
(key-value lines, who lives where), indirect objects (Wang et al. 2023), agreement across an
attractor (Linzen et al. 2016), and a distance between evidence and answer (Vafa et al. 2021).

Where one of several sentences holds the answer, "sentences" has the characters of each: in three
families that are written on demand (examples in the context, a chat of three turns, a retrieved
passage), in lists, and around a needle. The question is not among them. A chat has "messages",
which its model's template renders; its characters are those of the contents, each on a line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class KnownAnswer:
    """A prompt, the token that should come next, and the characters on which it rests.

    Attributes:
        text: The prompt; of a chat the contents of its messages, each on a line.
        target: The answer, with its leading space: one token of most vocabularies.
        span: Half-open characters of the evidence.
        foil: An answer of the same kind that is wrong.
        family: The kind of prompt.
        sentences: Half-open characters of the sentences of which one holds the evidence, without
            the question; empty where they are not told apart.
        messages: The messages of a chat; empty otherwise.
    """

    text: str
    target: str
    span: tuple[int, int]
    foil: str
    family: str
    sentences: Sequence[tuple[int, int]] = ()
    messages: Sequence[Mapping[str, str]] = ()

    @property
    def content(self) -> str | list[Mapping[str, str]]:
        """The question to a model: the text, or the chat."""
        return list(self.messages) or self.text

    @property
    def row(self) -> dict[str, Any]:
        """The prompt as a line of a file, without what it does not have."""
        return {name: value for name, value in asdict(self).items() if value}


CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid", "Germany": "Berlin",
    "Russia": "Moscow", "England": "London", "Greece": "Athens", "Egypt": "Cairo",
    "Ireland": "Dublin", "Austria": "Vienna", "Portugal": "Lisbon", "Cuba": "Havana",
    "China": "Beijing", "Sweden": "Stockholm", "Norway": "Oslo", "Peru": "Lima",
    "Poland": "Warsaw", "Turkey": "Ankara", "Iran": "Tehran", "Iraq": "Baghdad",
    "Belgium": "Brussels", "Hungary": "Budapest", "Thailand": "Bangkok", "Kenya": "Nairobi",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Canada": "Ottawa", "Chile": "Santiago",
    "India": "New", "Israel": "Jerusalem", "Lebanon": "Beirut", "Syria": "Damascus",
    "Argentina": "Buenos", "Switzerland": "Bern", "Ukraine": "Kiev", "Scotland": "Edinburgh",
    "Australia": "Canberra", "Jamaica": "Kingston",
}  # fmt: skip
_CAPITAL_TEMPLATES = (
    "The capital of {} is",
    "The capital city of {} is called",
    "We flew to {} last week and spent three days in its capital,",
    "Every student knows that the capital of {} is",
    "If you travel to {}, do not miss its capital,",
    "The government of {} sits in its capital,",
    "The largest airport of {} is near the capital,",
    "My aunt has lived in {} for twenty years, most of the time in its capital,",
    "On the map of {} a star marks the capital,",
)
_LONG_TEMPLATES = (
    "When my plane landed in {}, it was raining hard. I had slept badly and I was very tired. "
    "A friend met me at the airport and drove me to the capital,",
    "My sister has just moved to {}. She sent me a long letter about her new job, the weather and "
    "her neighbours. She says that she likes the capital,",
    "I grew up in {}. My parents had a small shop there, and on Sundays we went for long walks. "
    "When I was ten we moved to the capital,",
    "The company has opened an office in {}. It took two years to find the right people and a "
    "house that was large enough. The new office is in the centre of the capital,",
    "For our last holiday we chose {}. We had good food and met friendly people, and the weather "
    "was fine on most days. We liked most of all the capital,",
    "Her grandfather was born in {}. He learnt to play the violin as a boy and later gave lessons "
    "to children. His first concert was in the capital,",
    "The team is on a tour of {}. The players are tired after many hours on the bus. Tomorrow they "
    "will play in front of a large crowd in the capital,",
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
    ("The opposite of black is", "black", " white", " cold"),
    ("The opposite of rich is", "rich", " poor", " old"),
    ("The opposite of early is", "early", " late", " slow"),
    ("The opposite of young is", "young", " old", " poor"),
    ("The opposite of fast is", "fast", " slow", " late"),
    ("The opposite of open is", "open", " closed", " empty"),
    ("The opposite of full is", "full", " empty", " closed"),
    ("The opposite of day is", "day", " night", " end"),
    ("The opposite of war is", "war", " peace", " night"),
    ("The opposite of north is", "north", " south", " east"),
    ("The opposite of west is", "west", " east", " south"),
    ("The plural of the noun child is", "child", " children", " women"),
    ("The plural of the noun man is", "man", " men", " children"),
    ("The plural of the noun foot is", "foot", " feet", " men"),
    ("The plural of the noun mouse is", "mouse", " mice", " feet"),
    ("A baby cow is called a", "cow", " calf", " lamb"),
    ("A baby sheep is called a", "sheep", " lamb", " calf"),
    ("When water freezes it turns into", "freezes", " ice", " steam"),
    ("When water boils it turns into", "boils", " steam", " ice"),
    ("The currency of Germany is the", "Germany", " euro", " dollar"),
    ("The people of Brazil speak", "Brazil", " Portuguese", " German"),
    ("The people of Austria speak", "Austria", " German", " Portuguese"),
    ("The people of Mexico speak", "Mexico", " Spanish", " French"),
    ("The people of Egypt speak", "Egypt", " Arabic", " Spanish"),
    ("The pyramids of Giza are in the country of", "pyramids", " Egypt", " India"),
    ("The Taj Mahal is in the country of", "Taj Mahal", " India", " Egypt"),
    ("The Great Wall is in the country of", "Great Wall", " China", " India"),
    ("Mount Fuji is in the country of", "Fuji", " Japan", " China"),
    ("The telephone was invented by Alexander Graham", "telephone", " Bell", " Ford"),
    ("The author of Hamlet and Macbeth is William", "Hamlet and Macbeth", " Shakespeare", " James"),
    ("The author of Oliver Twist is Charles", "Oliver Twist", " Dickens", " Darwin"),
    ("The author of Pride and Prejudice is Jane", "Pride and Prejudice", " Austen", " Smith"),
    ("The laws of motion were found by Isaac", "motion", " Newton", " Singer"),
    ("The painter of the Mona Lisa is Leonardo da", "Mona Lisa", " Vinci", " Rome"),
    ("Hens lay things that we eat and that are called", "Hens", " eggs", " milk"),
    ("The planet with large rings is called", "rings", " Saturn", " Mars"),
    ("The planet nearest to the sun is called", "nearest", " Mercury", " Saturn"),
    ("The chemical symbol for carbon is the letter", "carbon", " C", " N"),
    ("The chemical symbol for nitrogen is the letter", "nitrogen", " N", " C"),
    ("A doctor who looks after teeth is called a", "teeth", " dentist", " nurse"),
    ("A person who flies a plane is called a", "plane", " pilot", " baker"),
    ("A person who bakes bread is called a", "bread", " baker", " pilot"),
    ("Yesterday was Monday, so today is", "Monday", " Tuesday", " Friday"),
    ("Today is Thursday, so tomorrow is", "Thursday", " Friday", " Tuesday"),
    ("Yesterday was Friday, so today is", "Friday", " Saturday", " Tuesday"),
    ("After the end of March comes the month of", "March", " April", " October"),
    ("After the end of September comes the month of", "September", " October", " April"),
    ("After the end of June comes the month of", "June", " July", " October"),
    ("They often go to the sea, and last year they also", "go", " went", " ate"),
    ("I want to eat an apple. Yesterday I also", "eat", " ate", " wrote"),
    ("I write a letter every day. Yesterday I also", "write", " wrote", " ate"),
    ("Fire is hot, and ice is", "ice", " cold", " small"),
    ("The people of France speak", "France", " French", " Russian"),
    ("The people of Italy speak", "Italy", " Italian", " French"),
    ("The people of Russia speak", "Russia", " Russian", " Italian"),
    ("The people of Japan speak", "Japan", " Japanese", " French"),
    ("Machu Picchu is in the country of", "Machu Picchu", " Peru", " India"),
    ("The Acropolis is in the city of", "Acropolis", " Athens", " Rome"),
    ("The Brandenburg Gate is in the city of", "Brandenburg Gate", " Berlin", " Paris"),
    ("The Sagrada Familia is in the city of", "Sagrada Familia", " Barcelona", " Madrid"),
    ("The Louvre is a museum in the city of", "Louvre", " Paris", " Berlin"),
    ("The light bulb was invented by Thomas", "light bulb", " Edison", " Hardy"),
    ("The founder of Microsoft is Bill", "Microsoft", " Gates", " Clinton"),
    ("The founder of Apple is Steve", "Apple", " Jobs", " Martin"),
    ("The symphony Eroica was written by Ludwig van", "Eroica", " Beethoven", " Mozart"),
    ("The leader of India's independence was Mahatma", "India", " Gandhi", " Lincoln"),
    ("The leader who ended slavery was Abraham", "slavery", " Lincoln", " Newton"),
    ("The speech I Have a Dream was given by Martin Luther", "Dream", " King", " Young"),
    ("The detective Hercule Poirot was invented by Agatha", "Hercule Poirot", " Christie",
     " Smith"),
    ("The boy wizard at Hogwarts is Harry", "Hogwarts", " Potter", " Smith"),
    ("Penicillin was found by Alexander", "Penicillin", " Fleming", " Bell"),
    ("America was reached in 1492 by Christopher", "America", " Columbus", " Wren"),
    ("The battle of Waterloo was lost by Napoleon", "Waterloo", " Bonaparte", " Hill"),
)  # fmt: skip
_NAMES = (
    "Mary", "John", "Tom", "Anna", "James", "Sarah", "Paul", "Emma", "David", "Laura", "Peter",
    "Alice", "Mark", "Lucy", "Simon", "Kate", "Helen", "George", "Maria", "Robert",
)  # fmt: skip
_WOMEN = ("Mary", "Anna", "Sarah", "Emma", "Laura", "Alice", "Lucy", "Kate", "Helen", "Maria")
_PLACES = ("store", "park", "school", "office", "station", "beach", "market", "library")
_OBJECTS = ("drink", "book", "ring", "letter", "key", "ticket", "phone", "coat")
_IOI_TEMPLATES = (
    "When {a} and {b} went to the {place}, {b} gave a {thing} to",
    "After {a} and {b} met at the {place}, {b} handed the {thing} to",
    "Then, {a} and {b} had a long talk at the {place}. Afterwards {b} gave a {thing} to",
    "While {a} and {b} were waiting at the {place}, {b} showed the {thing} to",
    "One day {a} and {b} came to the {place}, where {b} gave a {thing} to",
)
_NOUNS = (
    ("key", "keys"), ("dog", "dogs"), ("car", "cars"), ("book", "books"), ("child", "children"),
    ("teacher", "teachers"), ("house", "houses"), ("picture", "pictures"), ("door", "doors"),
    ("friend", "friends"), ("window", "windows"), ("letter", "letters"), ("tree", "trees"),
    ("student", "students"), ("chair", "chairs"), ("bird", "birds"),
)  # fmt: skip
_AGREEMENT_TEMPLATES = (
    "The {noun} {between} the {attractor}",
    "The {noun}, which you can see {between} the {attractor},",
    "The {noun}, which the man has put {between} the {attractor},",
)
_BETWEEN = ("near", "behind", "next to", "above", "in front of")
_KEYS = ("red", "blue", "green", "black", "white", "yellow", "brown", "pink", "gray", "orange")
_CITIES = ("Paris", "Rome", "London", "Berlin", "Madrid", "Tokyo", "Moscow", "Boston", "Chicago")
_ANIMALS = ("dog", "cat", "horse", "cow", "fox", "bear", "rabbit", "wolf", "lion", "tiger")
_FOODS = ("bread", "cheese", "rice", "soup", "fish", "chicken", "cake", "pasta", "beef", "fruit")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LISTS = ((_KEYS, _CITIES), (_NAMES, _ANIMALS), (_DAYS, _FOODS), (_ANIMALS, _KEYS))
_RESIDENCES = (
    ("{} lives in {}.", "{} lives in the city of"),
    ("{} was born in {}.", "{} was born in the city of"),
    ("{} has a flat in {}.", "{} has a flat in the city of"),
    ("{} lives in {}.", "Question: Where does {} live? Answer: in the city of"),
)


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


_WHO = (
    "The baker", "Our neighbour", "A young farmer", "The postman", "The tall gardener", "My uncle",
    "An old sailor", "The new teacher", "The carpenter", "A tourist", "The nurse", "The painter",
)  # fmt: skip
_DID = (
    "mended the gate", "bought a basket of apples", "swept the yard", "lost a glove",
    "fed the hens", "carried a ladder across the street", "waited for the bus", "sang an old song",
    "looked for a pair of scissors", "planted a row of beans", "wrote a long letter",
    "left an umbrella on the bench", "counted the boxes in the shed", "cleaned the windows",
)  # fmt: skip
_WHEN = (
    "before breakfast", "after the rain had stopped", "while the bells were ringing",
    "as soon as it was light", "although it was cold", "and went home on foot",
    "because nobody else had time", "without saying a word",
)  # fmt: skip
# What is told once, up to the word that the end asks for, and words for its place.
_NEEDLES = (
    ("The secret meeting of the club will be held in the city of", _CITIES),
    ("The wooden box under the stairs belongs to a woman named", _WOMEN),
    ("The magic word that opens the hidden cave is", _ANIMALS),
    ("The next meeting of the village council is on", _DAYS),
    ("The colour of the flag on the tower is", _KEYS),
)  # fmt: skip
_MADE_UP = (
    "zorp", "mival", "tandu", "bliff", "korrel", "sneb", "yalto", "prund", "wexi", "dolmar",
    "fegga", "hurnik", "lopsa", "quenty", "ruvo", "trask",
)  # fmt: skip
# A line, how a line begins, and words for its end.
_MAPPINGS = (
    ("{} -> {}", "{} ->", _ANIMALS),
    ("{} -> {}", "{} ->", _CITIES),
    ("The word {} means {}.", "The word {} means", _ANIMALS),
    ("The word {} means {}.", "The word {} means", _KEYS),
    ("Input: {}, output: {}", "Input: {}, output:", _FOODS),
)
# What a user tells, the question, how the answer begins, and words for the place.
_TOLD = (
    ("My dog is called {}.", "What is my dog called?", "Your dog is called", _NAMES),
    ("The name of my sister is {}.", "What is the name of my sister?",
     "The name of your sister is", _WOMEN),
    ("Next year I am going to move to {}.", "Where am I going to move next year?",
     "Next year you are going to move to", _CITIES),
    ("My favourite colour is {}.", "What is my favourite colour?", "Your favourite colour is",
     _KEYS),
    ("My favourite food is {}.", "What is my favourite food?", "Your favourite food is", _FOODS),
    ("My birthday is on a {} this year.", "On which day is my birthday this year?",
     "Your birthday this year is on a", _DAYS),
    ("The animal that I like best is the {}.", "Which animal do I like best?",
     "The animal that you like best is the", _ANIMALS),
)  # fmt: skip
_GREETINGS = ("Hello!", "Good morning!", "Hi, I have some time today.", "I would like to chat.")
_REMARKS = (
    "I slept well last night.", "It has been raining since noon.", "My work is done for today.",
    "I am sitting in the kitchen.", "The coffee is still too hot.",
)  # fmt: skip
_THANKS = (
    "Thank you for telling me. What else is new?", "That is nice to hear. How can I help you?",
    "I will remember that. Is there anything else?",
)  # fmt: skip
_ASIDES = (
    ("How do I get ink out of a shirt?",
     "Put some salt and lemon on it. Wait an hour, and wash it with cold water."),
    ("How long should I boil an egg?",
     "Boil it for about eight minutes. Then put it into cold water."),
    ("Can you tell me why leaves fall in autumn?",
     "Trees save water in winter. Leaves would lose too much of it."),
    ("How often should I water a cactus?",
     "Once in two weeks is enough. In winter it needs even less."),
)  # fmt: skip
_SIGHTS = (
    "Velden Bridge", "Ormond Library", "Tarn Castle", "Harrow Mill", "Selby Museum",
    "Quill Theatre", "Marsh Tower", "Linden Hall", "Copper Lighthouse", "Aston Garden",
)  # fmt: skip
# What a passage says of a sight, a question about it, and words for the place.
_SAID = (
    ("The {sight} is closed on {x}.", "On which day is the {sight} closed?",
     "The {sight} is closed on", _DAYS),
    ("The roof of the {sight} is painted {x}.", "Which colour has the roof of the {sight}?",
     "The roof of the {sight} is painted", _KEYS),
    ("The builder of the {sight} came from {x}.", "Where did the builder of the {sight} come from?",
     "The builder of the {sight} came from", _CITIES),
    ("The guide at the {sight} is called {x}.", "What is the guide at the {sight} called?",
     "The guide at the {sight} is called", _NAMES),
    ("Above the door of the {sight} stands a stone {x}.",
     "Which animal stands above the door of the {sight}?",
     "Above the door of the {sight} stands a stone", _ANIMALS),
)  # fmt: skip
_AROUND = (
    "It is a short walk from the station.", "Visitors need about an hour.",
    "A small shop sells cards and maps.", "Many people come in spring.",
    "There are stairs, but there is no lift.", "The old walls were repaired a few years ago.",
    "Children do not pay.", "Photographs are allowed in every part of it.",
)  # fmt: skip


def _at(text: str, evidence: str, last: bool = False) -> tuple[int, int]:
    start = text.rindex(evidence) if last else text.index(evidence)
    return start, start + len(evidence)


def _sentences(text: str) -> list[tuple[int, int]]:
    """Half-open characters of the sentences and lines of a text of our templates."""
    return [found.span() for found in re.finditer(r"[^\s.!?][^\n.!?]*[.!?]?", text)]


def _told(text: str, question: str, word: str, told: str, **others: Any) -> KnownAnswer:
    """A prompt whose answer is a word of one sentence, `told`, and that ends with a question."""
    start = text.index(told) + told.rindex(word)
    asked = text.rindex(question)
    return KnownAnswer(
        text,
        f" {word}",
        (start, start + len(word)),
        sentences=_sentences(text[:asked]),
        **others,
    )


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
    text = rng.choice(_AGREEMENT_TEMPLATES).format(
        noun=noun, between=rng.choice(_BETWEEN), attractor=attractor[not plural]
    )
    verbs = (" are", " is") if plural else (" is", " are")
    return KnownAnswer(text, verbs[0], _at(text, noun), verbs[1], "agreement")


def key_value(rng: random.Random) -> KnownAnswer:
    """The value of a key, from a list of lines, at times of a list that is begun again."""
    known_keys, known_values = rng.choice(_LISTS)
    keys, values = rng.sample(known_keys, 4), rng.sample(known_values, 4)
    lines = [f"{key}: {value}" for key, value in zip(keys, values, strict=True)]
    i, j = rng.sample(range(4), 2)
    # A small model seldom looks up a line out of order.
    again = ["", "Again:", *lines[:i]] if i and rng.random() < 0.75 else []
    listed = "\n".join(lines)
    text = "\n".join([listed, *again, f"{keys[i]}:"])
    span = _at(text, lines[i])
    return KnownAnswer(
        text, f" {values[i]}", span, f" {values[j]}", "key-value", _sentences(listed)
    )


def residence(rng: random.Random) -> KnownAnswer:
    """The city in which a person lives, of three, after another's has been asked for."""
    names, cities = rng.sample(_NAMES, 3), rng.sample(_CITIES, 3)
    i, j = rng.sample(range(3), 2)
    said, asked = rng.choice(_RESIDENCES)
    told = [said.format(name, city) for name, city in zip(names, cities, strict=True)]
    listed = " ".join(told)
    text = f"{listed}\n{asked.format(names[j])} {cities[j]}.\n{asked.format(names[i])}"
    span = _at(text, told[i])
    return KnownAnswer(
        text, f" {cities[i]}", span, f" {cities[j]}", "residence", _sentences(listed)
    )


def in_context(rng: random.Random) -> KnownAnswer:
    """The capital of a country, after three examples."""
    pairs = rng.sample(sorted(CAPITALS.items()), 4)
    *examples, (country, city) = pairs
    text = "\n".join([*(f"{c} - {d}" for c, d in examples), f"{country} -"])
    return KnownAnswer(text, f" {city}", _at(text, country), f" {examples[0][1]}", "in-context")


def _words(text: str) -> int:
    return len(text.split())


def _filler(rng: random.Random, size: int, count: Callable[[str], int]) -> list[str]:
    """Sentences of at least `size` words, or what else is counted, each once while they last."""
    composed = [f"{who} {did} {when}." for who in _WHO for did in _DID for when in _WHEN]
    filler: list[str] = []
    counted = 0
    while counted < size:
        for sentence in rng.sample([*_FILLER, *composed], len(_FILLER) + len(composed)):
            if counted < size:
                filler.append(sentence)
                counted += count(f" {sentence}")
    return filler


def needle(
    rng: random.Random, size: int, count: Callable[[str], int] = _words, *, whole: bool = False
) -> KnownAnswer:
    """A word that is told once in so many words of other sentences.

    Args:
        rng: Draws the sentences, and the depth of the one that tells the word.
        size: Words, or what `count` counts, of the other sentences.
        count: Size of a text.
        whole: True where `size` is about that of the whole prompt.
    """
    asked, words = rng.choice(_NEEDLES)
    word, foil = rng.sample(words, 2)
    told = f"{asked} {word}."
    if whole:
        size -= count(told) + count(asked)
    filler = _filler(rng, size, count)
    filler.insert(rng.randrange(len(filler) + 1), told)
    text = " ".join([*filler, asked])
    return _told(text, asked, word, told, foil=f" {foil}", family="needle")


def examples(rng: random.Random) -> KnownAnswer:
    """The label of a made-up word, from five to eight examples of which one has that word.

    One to three others stand there twice, so that a model sees that words are looked up.
    """
    number, again = rng.randint(4, 5), rng.randint(1, 3)
    line, asked, known = rng.choice(_MAPPINGS)
    words, labels = rng.sample(_MADE_UP, number), rng.sample(known, number)
    lines = [line.format(word, label) for word, label in zip(words, labels, strict=True)]
    told, question = lines[0], asked.format(words[0])
    repeated = rng.sample(lines[1:], again)
    rng.shuffle(lines)
    text = "\n".join([*lines, *repeated, question])
    return _told(text, question, labels[0], told, foil=f" {labels[1]}", family="examples")


def chat(rng: random.Random) -> KnownAnswer:
    """Facts that a user told in the first of three turns, asked for in the last."""
    fact, question, answer, words = rng.choice(_TOLD)
    word, foil = rng.sample(words, 2)
    told, (aside, reply) = fact.format(word), rng.choice(_ASIDES)
    first = [rng.choice(_GREETINGS), told, rng.choice(_REMARKS)]
    turns = [" ".join(first), rng.choice(_THANKS), aside, reply, question, answer]
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)
    ]
    text = "\n".join(turns)
    return _told(text, question, word, told, foil=f" {foil}", family="chat", messages=messages)


def passage(rng: random.Random) -> KnownAnswer:
    """Facts of one of three short passages, each under its title."""
    sights = rng.sample(_SIGHTS, 3)
    said, question, answer, words = rng.choice(_SAID)
    chosen, around = rng.sample(words, 3), rng.sample(_AROUND, 6)
    told = [said.format(sight=sight, x=x) for sight, x in zip(sights, chosen, strict=True)]
    i, j = rng.sample(range(3), 2)
    passages = []
    for number, sight in enumerate(sights):
        body = around[2 * number : 2 * number + 2]
        body.insert(rng.randrange(3), told[number])
        passages.append(f"The {sight}\n{' '.join(body)}")
    asked = f"Question: {question}\nAnswer: {answer}".format(sight=sights[i])
    text = "\n\n".join([*passages, asked])
    return _told(text, asked, chosen[i], told[i], foil=f" {chosen[j]}", family="passage")


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
SENTENCE_FAMILIES: dict[str, Callable[[random.Random], KnownAnswer]] = {
    "examples": examples,
    "chat": chat,
    "passage": passage,
}


def prompts(family: str, seed: int) -> Iterator[KnownAnswer]:
    """Yield prompts of a family, each once, until no new one comes."""
    rng, seen, misses = random.Random(f"{family} {seed}"), set(), 0
    while misses < 1000:
        prompt = (FAMILIES | SENTENCE_FAMILIES)[family](rng)
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


def token_counter(tokenizer: Any) -> Callable[[str], int]:
    """A function that counts the tokens of a text, without special ones."""
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def answered(prompts: Sequence[KnownAnswer], adapter: Any) -> list[bool]:
    """True at prompts after which the target comes first in a language model's prediction."""
    contents = [adapter.encode(prompt.content) for prompt in prompts]
    said = adapter.predicted([adapter.whole_variant(content) for content in contents])
    wanted = [adapter.first_token_of(prompt.target) for prompt in prompts]
    return [token == target for token, target in zip(said, wanted, strict=True)]


def shares(prompts: Sequence[KnownAnswer], kept: Sequence[bool]) -> str:
    """A table of how many prompts of each family are kept."""
    drawn = Counter(prompt.family for prompt in prompts)
    right = Counter(prompt.family for prompt, is_kept in zip(prompts, kept, strict=True) if is_kept)
    lines = ["| family | prompts | answered | share |", "|---|---|---|---|"]
    for family, number in [*drawn.items(), ("all", len(prompts))]:
        count = sum(kept) if family == "all" else right[family]
        lines.append(f"| {family} | {number} | {count} | {count / number:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--each", type=int, default=40, help="prompts of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES),
        choices=(*FAMILIES, *SENTENCE_FAMILIES), help="default: those without chats and passages",
        )  # fmt: skip
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--needle", type=int, metavar="WORDS",
        help="one sentence with the answer in so many words of others, instead")  # fmt: skip
    size.add_argument("--tokens", type=int, metavar="N",
        help="the same, with about so many tokens of --model's tokenizer in all")  # fmt: skip
    parser.add_argument("--model", help="whose tokenizer counts --tokens")
    parser.add_argument("--kept-by", metavar="MODEL",
        help="write only prompts that this language model answers; print shares")  # fmt: skip
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.tokens is not None:
        from transformers import AutoTokenizer

        if args.model is None:
            parser.error("--tokens needs --model, whose tokenizer counts")
        count = token_counter(AutoTokenizer.from_pretrained(args.model))
        written = [needle(rng, args.tokens, count, whole=True) for _ in range(args.each)]
    elif args.needle is not None:
        written = [needle(rng, args.needle) for _ in range(args.each)]
    else:
        written = [p for name in args.families for p in islice(prompts(name, args.seed), args.each)]
    if args.kept_by is not None:
        from attnflow.methods import load_adapter

        kept = answered(written, load_adapter(args.kept_by))
        print(shares(written, kept))
        written = [prompt for prompt, is_kept in zip(written, kept, strict=True) if is_kept]
    with args.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(prompt.row) + "\n" for prompt in written)


if __name__ == "__main__":
    main()
