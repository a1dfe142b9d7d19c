#!/usr/bin/env python3
"""Writes tests/vectors/tokenizer_*.txt: texts, and what the `tokenizers` package makes of them.

Needs the packages `tokenizers` and `gguf` and a folder with both model files:

    pip install tokenizers==0.23.3 gguf==0.19.0
    scripts/make_tokenizer_vectors.py --models FOLDER

The same versions write the same bytes. Format, for each file behind its first line (which says what it is):
  tokenizer_texts.txt          a text a line; \\\\ is a backslash, \\u{HEX} a code point
  tokenizer_pieces_NAME.txt    for each text the bytes of each piece of pre-tokenizer NAME: base-64 digits of five bits
                               each, lowest first, 32 added to all but a number's last
  tokenizer_tokens_NAME.txt    for each text its tokens, three base-64 digits each, highest first; where control tokens
                               make a difference, a blank and the tokens with them
The digits of base 64 are 0-9, A-Z, a-z, '-', '_'.
"""

import argparse
import pathlib
import random
import unicodedata

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"

SENTENCES = {
    "English": [
        "The ferry leaves at half past six, so we'd better hurry.",
        "I've never seen the river this low; it's usually up to the second step.",
        "She asked, \"Who'll bring the lamps?\" and nobody answered.",
        "Don't put the glasses there, they'll fall (again).",
        "Two-thirds of the state-of-the-art kettles couldn't boil an egg.",
        "HE'S SURE WE'LL SAY THEY'RE WRONG AND I'M RIGHT.",
        "It\u2019s the farmer\u2019s gate, isn\u2019t it? You\u2019d know\u2014you\u2019ve built it.",
        "Please re-read section 4.2.1 and e-mail your notes to anna@example.org by 5pm.",
    ],
    "German": [
        "Der Schlüssel liegt unter der großen Fußmatte, wie üblich.",
        "Im Straßenbahnverkehrsgesetzentwurf fehlt ein Komma.",
        "Äpfel, Öl und Übermut: mehr braucht's nicht.",
        "»Geht's noch?«, fragte der Zöllner und schloß das Tor.",
        "Am 3. Oktober kostete das Kilo 1.299,50 €.",
    ],
    "French": [
        "L'été dernier, nous n'avions qu'une lampe à huile.",
        "Où est passé le garçon qui vendait des œufs ?",
        "« C'est déjà l'aube », dit-elle ; puis elle s'endormit.",
        "Aujourd'hui, l'hôtel d'à côté a brûlé jusqu'au toit.",
    ],
    "Spanish": [
        "¿Quién dejó la puerta abierta anoche?",
        "¡Qué frío! Mañana iremos al pingüinario.",
        "El señor Núñez llegó a las 8:45, cansado y sin paraguas.",
    ],
    "Portuguese": [
        "A canção começou antes que o coração pudesse parar.",
        "Não há pão na padaria às segundas-feiras.",
        "Vovô pôs três maçãs no avião de papelão.",
    ],
    "Polish": [
        "Zażółć gęślą jaźń, a potem odłóż łyżkę.",
        "Wczoraj śnieg spadł na źdźbła trawy koło Łodzi.",
        "Czy pięćdziesiąt złotych wystarczy na książkę?",
    ],
    "Turkish": [
        "İstanbul'da yağmur yağıyor, ışıklar sönük.",
        "Çocuklar bahçede gülüşüp oynuyordu.",
        "IĞDIR'dan gelen mektup İzmir'e ulaştı.",
    ],
    "Czech": ["Příliš žluťoučký kůň úpěl ďábelské ódy.", "Vlak měl zpoždění čtyřicet minut."],
    "Hungarian": ["Az őszi eső elverte a szőlőt.", "Két fűzfa áll a tó mellett."],
    "Finnish": ["Järven yllä leijuu sumu, ja hirvi juo.", "Yöjunassa ei myydä kahvia."],
    "Icelandic": ["Það er kalt í dag, þó að sólin skíni."],
    "Russian": [
        "Вчера вечером мы чинили старый насос.",
        "Ёжик спрятался под крыльцом и фыркнул.",
        "Сколько стоит билет до Твери — 450 или 480 рублей?",
    ],
    "Ukrainian": ["Їжак з'їв п'ять яблук і заснув.", "Ґанок потребує нової фарби."],
    "Greek": ["Το πλοίο φεύγει στις έξι ακριβώς.", "Ο σκύλος κοιμάται κάτω από την ελιά.", "ΚΑΛΗΜΕΡΑ ΣΑΣ, φίλοι μου!"],
    "Hebrew": ["הסירה עוזבת בשעה שש.", "מִי שָׁכַח אֶת הַמַּפְתֵּחַ בַּדֶּלֶת?", "קניתי 3 תפוחים ב־12 ש״ח."],
    "Arabic": [
        "تغادر السفينة في السادسة صباحًا.",
        "مَنْ نَسِيَ المِفْتَاحَ فِي البَابِ؟",
        "اشتريت ٣ كتب بـ ١٢٫٥ دينار.",
    ],
    "Persian": ["کتاب‌ها را روی میز می‌گذارم.", "امروز ۱۴ مهر است."],
    "Hindi": ["नाव सुबह छह बजे निकलती है।", "बच्चे आँगन में खेल रहे थे।", "उसने १२ आम ख़रीदे।"],
    "Bengali": ["নৌকা সকাল ছয়টায় ছাড়ে।", "আমার ৫টি কলম আছে।"],
    "Tamil": ["படகு காலை ஆறு மணிக்கு புறப்படும்.", "௧௨ மாம்பழங்கள்"],
    "Telugu": ["పడవ ఉదయం ఆరు గంటలకు బయలుదేరుతుంది."],
    "Georgian": ["გემი დილის ექვს საათზე გადის."],
    "Armenian": ["Նավը մեկնում է առավոտյան ժամը վեցին։"],
    "Amharic": ["ጀልባው ጠዋት ይነሳል።"],
    "Thai": ["เรือออกเวลาหกโมงเช้า", "ใครลืมกุญแจไว้ที่ประตู ๒๓ ดอก", "แมวกินน้ำใต้ต้นไม้"],
    "Lao": ["ເຮືອອອກເວລາຫົກໂມງເຊົ້າ"],
    "Khmer": ["ទូកចេញដំណើរនៅម៉ោងប្រាំមួយព្រឹក។"],
    "Burmese": ["လှေသည် မနက်ခြောက်နာရီတွင် ထွက်သည်။"],
    "Tibetan": ["གྲུ་ནི་ཞོགས་པར་འགྲོ་གི་རེད།"],
    "Chinese": ["渡船早上六点开。", "谁把钥匙忘在门上了？", "他买了12个苹果，一共花了３６元。", "「請問車站在哪裡？」老人問。"],
    "Japanese": ["船は朝六時に出ます。", "ドアに鍵を忘れたのは誰ですか？", "りんごを12個買って、３６０円払った。", "ｶﾀｶﾅも半角で書ける。"],
    "Korean": ["배는 아침 여섯 시에 떠난다.", "누가 문에 열쇠를 두고 갔습니까?", "사과 12개를 샀다."],
    "Vietnamese": [
        "Thuyền rời bến lúc sáu giờ sáng.",
        "Ai để quên chìa khóa ở cửa thế?",
        "Nghĩa đã mua mười hai quả táo.",
    ],
    "Cherokee": ["ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"],
    "Old scripts": ["𐌰𐌱𐌲 𐌳𐌴", "𒀀𒁀 𒈗", "𓀀𓂀𓆣", "𝔄𝔟𝔠 𝟘𝟙𝟚 𝒳𝓎𝓏"],
}

CODE = [
    "def area(width, height=1.0):\n    \"\"\"Square metres.\"\"\"\n    return width * height\n",
    "for i, row in enumerate(rows):\n\tif not row:\n\t\tcontinue\n\ttotal += sum(int(x) for x in row.split(','))\n",
    "class Lamp:\n    def __init__(self, *, on=False):\n        self._on = on\n\n\n    @property\n"
    "    def on(self): return self._on\n",
    "x = [n**2 for n in range(10) if n % 3 != 0]; print(f\"{x!r:>20}\")",
    "template <class T, std::size_t N>\n"
    "constexpr T sum(const std::array<T, N>& v) { T s{}; for (auto x : v) s += x; return s; }",
    "#include <vector>\r\nint main() {\r\n  std::vector<int> v{1, 2, 3};\r\n"
    "  return v.size() == 3u ? 0 : -1;\r\n}\r\n",
    "auto f = [&](int a) -> double { return a / 2.0e-3f; };  // half\n/* block\n   comment */",
    "if (a&&b||!c) { x<<=2; y>>=1; p->q.r[0]++; }",
    "{\"id\": 17, \"tags\": [\"a\", \"b c\"], \"ratio\": -1.5e+10, \"none\": null, \"ok\": true}",
    "{\n  \"name\": \"lamp\",\n  \"sizes\": [\n    10,\n    200,\n    3000\n  ]\n}",
    "#!/bin/sh\nset -eu\nfor f in *.txt; do\n  mv -- \"$f\" \"${f%.txt}.md\" || exit 1\ndone\n",
    "grep -rn 'foo\\|bar' . | awk '{print $2}' | sort -u > /dev/null 2>&1",
    "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Lamps &amp; oil</title></head>\n"
    "<body class='a b'><br/></body></html>",
    "<p style=\"color:#fff;margin:0 auto\">1 &lt; 2 &nbsp; &#x41;</p>",
    "SELECT name, COUNT(*) AS n FROM lamps WHERE price >= 12.50 AND name LIKE '%oil%' GROUP BY name ORDER BY n DESC;",
    "INSERT INTO t(a,b) VALUES (1,'it''s'),(2,NULL);\n-- done",
    "fn main() -> Result<(), Box<dyn Error>> { let v: Vec<u8> = vec![0; 16]; Ok(()) }",
    "func (l *Lamp) Toggle() error {\n\tl.on = !l.on\n\treturn nil\n}",
    "const f = async ({a, ...rest}) => (await fetch(`/api/${a}?x=1`)).json() ?? rest;",
    "\\begin{equation}\n  \\int_0^1 x^2\\,dx = \\frac{1}{3}\n\\end{equation}",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n\n## Title\n\n* one\n  * two\n\n```py\nx=1\n```\n",
    "diff --git a/x b/x\n@@ -1,2 +1,2 @@\n-old line\n+new line\n \n",
    "all: lamp.o\n\t$(CC) -o $@ $^ -lm\n.PHONY: all\n",
    "key = value\n[section]\n; comment\npath=C:\\Users\\lamp\\file.ini\n",
    "2024-02-29T23:59:60Z ERROR [main] lamp.cpp:42 failed: errno=2 (No such file)\n",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case dot.case __dunder__ x1y2z3",
    "0x7fff_ffff 0b1010 0o17 1e-9 .5 5. 1_000_000 3+4j 0XDEADBEEFul",
    "https://example.org:8080/a/b?q=lamp%20oil&n=10#top mailto:anna@example.org",
]

EMOJI = [
    "😀", "😀😃😄", "👍🏽", "👩🏾\u200d🚀", "👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "🇩🇪🇫🇷🇯🇵", "🇩", "❤\ufe0f", "❤",
    "☎\ufe0e", "1\ufe0f\u20e3", "#\ufe0f\u20e3", "🫠🫶🏿", "⚡⛵", "🧑🏻\u200d🤝\u200d🧑🏿",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "ok👌ok", "👌 ok", " 👌", "👌1", "1👌", "👌\n👌", "😀's",
    "→←↑↓⇒", "★☆✓✗", "♠♥♦♣", "⌘⌥⇧",
]

NUMBERS = [
    "0", "7", "42", "365", "1984", "12345", "123456", "1234567", "1,234,567.89", "3.14159", "-40", "+49 30 123456",
    "1e10", "50%", "1/2", "½ ⅓ ¾", "x²+y³", "H₂O", "①②③ ⑩ ⑪", "Ⅷ ⅷ Ⅻ", "〇一二三", "٠١٢٣٤٥", "۰۱۲۳", "०१२३", "০১২৩",
    "๐๑๒๓", "໐໑໒", "༠༡༢", "၀၁၂", "០១២", "０１２３", "𝟎𝟏𝟐𝟑", "፩፪፫", "৴৵", "௰௱௲", "ↀↁↂ", "𐄇𐄈", "1st 2nd 3rd 4th",
    "v1.2.3-rc4", "a1b22c333d4444", "12:34:56", "1990s", "90's", "1'000'000", "1 000 000", "1\u00a0000", "1\u202f000",
    "$5", "5$", "€5.00", "№5", "#5", "5°C", "10km", "10 km", " 1", "  1", "   1", "1 ", "1  ", "1  2", "1   2 3",
    "00000000000000000000", "9" * 31, "2" * 100, "१2३4", "1١1", "1\u03011", "1_1", "1-1", "1\n1", "1\r\n1", "\t1",
    "\u30001",
]

BLANKS = [
    " ", "  ", "   ", "    ", "     ", " " * 16, " " * 33, "\t", "\t\t", " \t", "\t ", "\n", "\n\n", "\n\n\n", "\r\n",
    "\r\n\r\n", "\r", "\r\r", "\n\r", " \n", "\n ", " \n ", "  \n  ", "\n\t", "\t\n", "\n    ", "    \n", "\v", "\f",
    "\v\n", "\f ", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", " \x85", "\x85\n", "\u00a0", "\u00a0\u00a0", " \u00a0",
    "\u00a0 ", "\u1680", "\u180e", "\u2000\u2001", "\u2002", "\u2003 ", "\u2009", "\u200a", "\u200b", " \u200b",
    "\u200b ", "\u200c", "\u200d", "\u2028", "\u2029", "\u2028\n", "\u202f", "\u205f", "\u2060", "\u3000",
    "\u3000\u3000", " \u3000", "\u3000\n", "\ufeff", "\u00ad",
]

CONTRACTIONS = [
    f"{before}{quote}{tail}{after}"
    for quote in ("'", "\u2019")
    for tail in "s S t T re RE Re rE ve VE m M ll LL lL d D \u017f l r v x L ".split(" ")
    for before, after in (("he", ""), ("HE", " x"), ("", "x"), (" ", ""), ("1", "1"), ("''", "y"), ("\n", "é"))
]

PUNCTUATION = [
    "...", "....", ". . .", "…", "!!!", "?!?!", "!!!\n", "!!!\r\n\r\n", "!\n!", "! \n!", "--", "---", "—–-", "==",
    "===" * 9, "*" * 40, "-" * 80, "_" * 25, "#" * 7, "//", "///", "/* */", "<!-- -->", "<>", "<=>", "->", "=>", "::",
    "::=", "&&", "||", "!=", "<<<<", ">>>>", "(())", "[[]]", "{{}}", "{{ x }}", "{% if %}", "``", "```", "''", "'''",
    "\"\"\"", "\"'\"", "\\\\", "\\n", "\\", "@@", "$$", "%%", "^^", "~~", "+-", "±", "×÷", "«»", "„“”‚‘’", "。、！？",
    "（）【】《》", "・・・", "¿¡", "§¶†‡", "©®™", "°′″", "a.b.c", "a,b;c:d", "(a)", "[a]", "{a}", "<a>", "\"a\"", "'a'",
    "a/b", "a\\b", "@a", "#a", "$a", "%a", "&a", "*a", "_a", "-a", "+a", "=a", "~a", "^a", "`a`", "|a|", ". a", " .a",
    "a .", "a. ", "a.\n", "a.\n\nb", "a!?\r\nb",
]

COMBINING = [
    "e\u0301", "e\u0301e\u0301", "\u0301", "\u0301a", " \u0301", "a\u0301 b", "n\u0303o",
    "a\u0300\u0301\u0302\u0303\u0304", "Z\u0351\u036b\u0343a\u0334\u0321l\u0322g\u0338o", "क्षि", "ก็", "한",
    "\u1112\u1161\u11ab", "が", "か\u3099", "A\u20dd", "\u0903", "\u0488x", "1\u20e31", "i\u0307", "ﬁﬂﬃ", "ǆǅǄ", "ﷺ",
    "㎏㏑", "ª º", "ʰʱ ˈa ˌb", "ˇ˘", "ʼn ŉ", "ß ẞ ſ", "Å Å", "Ω Ω", "\u0345", "\u2126\u212a\u212b", "ﬅ ﬆ", "'ﬅ 'ﬆ",
    "𝐀\u0301",
]

ODD = [
    "\x00", "a\x00b", "\x01\x02\x03", "\x04", "a\x04b", "!\x04!", "\x06 \x13\x14\x16\x1d", "\x07", "\b",
    "\x1b[31mred\x1b[0m", "\x7f", "\x80\x81\x9f", "\ue000\ue001", "\uf8ff", "\U000f0000", "\U0010fffd", "\ufffd",
    "\ufffe\uffff", "\ufdd0", "\U0001ffff", "\U0010ffff", "\U00040000", "a\U00050000b", "\U000e0001",
    "\u202eabc\u202c", "\u200ea\u200fb", "\u2066x\u2069", "\ufff9a\ufffb", "\ufeffstart", "end\ufeff", "\u115f\u1160",
    "\u3164", "\u2800\u2800", "\ud7ff", "\U0001d173", "\u061c", "\u070f", "\u06dd12", "",
]

CONTROL_NAMES = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>", "<|fim_prefix|>", "<tool_call>",
    "</tool_call>", "<|box_start|>",
]

LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make_texts():
    """All texts, each once, in a fixed order."""
    source = random.Random(20250101)

    def below(n):
        return int(source.random() * n)

    def pick(items):
        return items[below(len(items))]

    # Assigned since Unicode 3.2, so that no later version changes what is drawn.
    assigned = [c for c in range(0x80, 0x30000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co")]
    scattered = [c for c in assigned if not (0x3400 <= c <= 0x9FFF or 0xAC00 <= c <= 0xD7A3 or c >= 0x20000)]
    by_category = {}
    for c in assigned:
        by_category.setdefault(unicodedata.ucd_3_2_0.category(chr(c)), []).append(chr(c))
    categories = sorted(by_category)

    sentences = [sentence for group in SENTENCES.values() for sentence in group]
    words = [word for sentence in sentences for word in sentence.split()]
    texts = sentences + CODE + EMOJI + NUMBERS + CONTRACTIONS + PUNCTUATION + COMBINING + ODD
    texts += [sentence.upper() for sentence in sentences] + [sentence.lower() for sentence in sentences[::3]]
    texts += ["  " + line + "\t \n" for code in CODE for line in code.splitlines() if len(line) < 40]
    for blank in BLANKS:
        texts += [blank, "a" + blank + "b", blank + "b", "a" + blank]
        texts += ["a" + blank + "1", "1" + blank + "!", "!" + blank + "a"]
    texts += ["a" + pick(BLANKS) + pick(BLANKS) + pick(["b", "2", "?", ""]) for _ in range(150)]
    texts += [pick(EMOJI) + pick(["", " ", "\n"]) + pick(words) + pick(NUMBERS[:60]) for _ in range(60)]

    long_words = ["a" * 200, "ab" * 150, "Donaudampfschifffahrt" * 12, "ü" * 120, "漢" * 80, "the" * 60, "xyz" * 70]
    long_words += ["\u0301" * 50, "!?" * 90, " " * 300, "\n" * 60, "\t" * 70]
    texts += long_words + [" " + word for word in long_words]
    texts += ["".join(chr(97 + below(26)) for _ in range(20 + below(100))) for _ in range(30)]

    atoms = list(" \n\t\r'.!aZéß1٣漢\u0301😀\u00a0\u3000\u200b\x85-_\u017f")
    atoms += ["  ", "\r\n", "'s", "'LL", "'re", "\u2019s", " a", " 1", " !", "ab", "the", "22", "...", "\u2028"]
    texts += ["".join(pick(atoms) for _ in range(2 + below(14))) for _ in range(600)]
    texts += ["".join(pick(by_category[pick(categories)]) for _ in range(1 + below(7))) for _ in range(250)]
    texts += [
        "".join(chr(pick(scattered)) + pick(["", "", " ", "a", "1"]) for _ in range(1 + below(8))) for _ in range(150)
    ]
    texts += [" ".join(pick(words) for _ in range(2 + below(7))) for _ in range(150)]

    texts += CONTROL_NAMES
    parts = CONTROL_NAMES + ["<|", "|>", "<|im_", "im_end|>", "<", " ", "\n", "user\n", "a", "  ", "1"]
    texts += ["".join(pick(parts) for _ in range(2 + below(7))) for _ in range(110)]
    texts += ["<|im_start|>user\n" + sentence + "<|im_end|>\n<|im_start|>assistant\n" for sentence in sentences[::4]]
    return list(dict.fromkeys(texts))


def escape(text):
    def one(c):
        category = unicodedata.ucd_3_2_0.category(c)
        plain = c == " " or category[0] not in "CZM"
        return "\\\\" if c == "\\" else c if plain else f"\\u{{{ord(c):x}}}"

    return "".join(map(one, text))


def short_digits(number):
    digits = ""
    while number >= 32:
        digits += DIGITS[32 + number % 32]
        number //= 32
    return digits + DIGITS[number]


def three_digits(number):
    return DIGITS[number >> 12] + DIGITS[number >> 6 & 63] + DIGITS[number & 63]


def make_pre_tokenizer(name):
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), make_pre_tokenizer("gpt-2")])
    expression = LLAMA.replace("{1,3}", "") if name == "qwen2" else LLAMA
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def make_tokenizer(path):
    reader = gguf.GGUFReader(path)

    def field(key):
        return reader.fields["tokenizer.ggml." + key].contents()

    tokens = field("tokens")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = make_pre_tokenizer(field("pre"))
    kinds = list(zip(tokens, field("token_type")))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in kinds if kind == 3])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t, kind in kinds if kind == 4])
    return tokenizer


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, required=True, help="folder with both model files")
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests" / "vectors")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    def write(name, title, lines):
        title = f"# {title}; written by scripts/make_tokenizer_vectors.py"
        path = arguments.out / f"tokenizer_{name}.txt"
        path.write_text("\n".join([title, *lines]) + "\n", encoding="utf-8", newline="\n")
        print(f"{path.name}: {len(lines)} lines, {path.stat().st_size} bytes")

    texts = make_texts()
    by_package = f"by tokenizers {tokenizers.__version__}"
    write("texts", "texts", [escape(text) for text in texts])
    for name in ("smollm", "qwen2", "gpt-2", "llama-bpe"):
        pre_tokenizer = make_pre_tokenizer(name)
        lines = []
        for text in texts:
            pieces = [text[begin:end].encode() for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text)]
            assert b"".join(pieces) == text.encode(), (name, text)
            lines.append("".join(short_digits(len(piece)) for piece in pieces))
        write("pieces_" + name, f"pieces of pre-tokenizer {name}, {by_package}", lines)

    for name, file in (
        ("smollm", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("qwen2", "Qwen2.5-Coder-0.5B-Instruct.gguf"),
    ):
        tokenizer = make_tokenizer(arguments.models / file)

        def encode(text, as_text):
            tokenizer.encode_special_tokens = as_text
            return "".join(map(three_digits, tokenizer.encode(text, add_special_tokens=False).ids))

        lines = []
        for text in texts:
            plain, parsed = encode(text, True), encode(text, False)
            lines.append(plain if plain == parsed else plain + " " + parsed)
        write("tokens_" + name, f"tokens of {file}, {by_package}", lines)


if __name__ == "__main__":
    main()
