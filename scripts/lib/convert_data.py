"""Turns the files that fetch_data brought into JSON lines for `krul evaluate`.

Everything is chosen by rule and in the order of the source, so that the same files always give the same lines.
Lengths are in characters, because tokens depend on the model: 4 to 4.5 characters make a token of English.
"""

import gzip
import json
import re

PER_SOURCE = 20  # conversations, and tasks, of each source
LOOKED_UP = 30  # tasks whose answer nothing has looked at before: lines, and keys with values
CONVERSATION = 7_000  # characters: 1,152 tokens and some to spare
LONG = 26_000  # characters: 4,224 tokens and some to spare
CONTEXT = 3_800  # characters of a task's context: about 900 tokens
IN_QUOTES = "Answer with a few words from the text, in quotes."


def read_json_lines(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as file:
        return [json.loads(line) for line in file if line.strip()]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def conversation(source, name, messages):
    return {"id": f"{source}/{name}", "source": source, "messages": messages}


def message(role, text):
    return {"role": role, "content": text.strip()}


def length(messages):
    return sum(len(each["content"]) for each in messages)


def cut(messages, characters):
    """The first messages that together reach so many characters; all of them if they are fewer."""
    kept = []
    for each in messages:
        if length(kept) >= characters:
            break
        kept.append(each)
    return kept


def longest(conversations):
    """By length, longest first; equal ones in their order."""
    return sorted(conversations, key=lambda each: -length(each["messages"]))


# Conversations: [all that a source has], the best first


def oasst(raw):
    """Of each tree of replies, the thread with the most text."""

    def threads(node, before):
        here = before + [message("assistant" if node["role"] == "assistant" else "user", node["text"])]
        replies = node.get("replies") or []
        return [thread for reply in replies for thread in threads(reply, here)] or [here]

    trees = read_json_lines(raw / "oasst_en_100/en_100_tree.jsonl")
    return longest(conversation("oasst", tree["message_tree_id"], max(threads(tree["prompt"], []), key=length)) for tree in trees)


def mtrag(raw):
    """A conversation with passages in front, as many as fit 2,000 characters, and the reply that was the target."""
    found = []
    for row in read_json_lines(raw / "mtrag_un/reference.jsonl"):
        passages = fitting((passage["text"].strip() for passage in row["contexts"]), 2_000)
        messages = [message("system", "\n\n".join(passages))] if passages else []
        messages += [message("user" if turn["speaker"] == "user" else "assistant", turn["text"]) for turn in row["input"]]
        messages.append(message("assistant", row["targets"][0]["text"]))
        found.append(conversation("mtrag", row["task_id"], messages))
    return longest(found)


def casino(raw):
    """A negotiation: the first to speak is the user."""
    return longest(
        conversation("casino", entry["dialogue_id"],
                     [message("user" if turn["id"] == entry["chat_logs"][0]["id"] else "assistant", turn["text"]) for turn in entry["chat_logs"]])
        for entry in read_json(raw / "casino/casino_train.json"))


def memorybank(raw):
    """All days of one user, in order."""
    users = read_json(raw / "memorybank_en/memory_bank_en.json")
    return [
        conversation("memorybank", name, [
            message(role, turn[key]) for day in user["history"].values() for turn in day
            for role, key in (("user", "query"), ("assistant", "response"))
        ]) for name, user in users.items()
    ]


def meeting_turns(meeting):
    """What was said, without the marks for noises and broken-off words; None where nothing is left of a turn."""
    turns = []
    for turn in meeting["meeting_transcripts"]:
        text = " ".join(re.sub(r"\{[a-z]+\}", "", turn["content"]).split())
        turns.append(f"{turn['speaker']}: {text}" if text else None)
    return turns


def qmsum(raw):
    """A meeting: each turn is a user's message that begins with the speaker."""
    meetings = read_json_lines(raw / "qmsum/val.jsonl")
    return [conversation("qmsum", number, [message("user", turn) for turn in meeting_turns(meeting) if turn]) for number, meeting in enumerate(meetings)]


def record_messages(record):
    """The messages of a text in which USER: and ASSISTANT: take turns."""
    parts = re.split(r"(USER|ASSISTANT): ", record)
    return [message("user" if who == "USER" else "assistant", text) for who, text in zip(parts[1::2], parts[2::2])]


def longeval(raw):
    """Conversations about ten topics, one after the other."""
    cases = read_json_lines(raw / "longeval/10_topics.jsonl")
    return [conversation("longeval", case["test_id"], record_messages(record_of(case))) for case in cases]


def topical_chat(raw):
    """The longest everyday chats."""
    return longest(
        conversation("topical-chat", name, [message("user" if turn["agent"] == entry["content"][0]["agent"] else "assistant", turn["message"])
                                            for turn in entry["content"]])
        for name, entry in read_json(raw / "topical_chat/valid_freq.json").items())


# Tasks


def task(source, name, context, question, answer, lead=""):
    """`lead` is how the answer begins: the model is given it with the question and is judged on the answer, which follows
    it at once (so an answer after a whole word begins with a space)."""
    return {"id": f"{source}/{name}", "source": source, "context": context, "question": question, "lead": lead, "answer": answer}


def fitting(texts, characters):
    """The first texts that together stay below so many characters."""
    kept = []
    for text in texts:
        if sum(map(len, kept)) + len(text) > characters:
            break
        kept.append(text)
    return kept


def qmsum_tasks(raw):
    """A question on a part of a meeting, with the part that answers it and as much around it as fits. First one of each
    meeting, then the second, and so on."""
    found = []
    for number, meeting in enumerate(read_json_lines(raw / "qmsum/val.jsonl")):
        turns = meeting_turns(meeting)
        for rank, query in enumerate(meeting["specific_query_list"]):
            begin = min(int(span[0]) for span in query["relevant_text_span"])
            end = min(max(int(span[1]) for span in query["relevant_text_span"]) + 1, len(turns))
            excerpt = widened(turns, begin, end)
            if excerpt:
                found.append((rank, number, task("qmsum", f"{number}-{rank}", excerpt, query["query"].strip(), query["answer"].strip())))
    return [each for _, _, each in sorted(found, key=lambda entry: entry[:2])]


def widened(turns, begin, end):
    """turns[begin:end] and turn by turn more on both sides while they fit; None if they do not fit themselves."""

    def text(first, last):
        return "\n".join(turn for turn in turns[first:last] if turn)

    if end <= begin or len(text(begin, end)) > CONTEXT:
        return None
    grown = True
    while grown:
        grown = False
        if begin > 0 and len(text(begin - 1, end)) <= CONTEXT:
            begin, grown = begin - 1, True
        if end < len(turns) and len(text(begin, end + 1)) <= CONTEXT:
            end, grown = end + 1, True
    return text(begin, end)


def mtrag_tasks(raw):
    """The last question of a conversation that its passages answer; passages and earlier turns are the context."""
    found = []
    for row in read_json_lines(raw / "mtrag_un/reference.jsonl"):
        passages = [passage["text"].strip() for passage in row["contexts"]]
        turns = [f"{turn['speaker'].capitalize()}: {turn['text'].strip()}" for turn in row["input"][:-1]]
        context = "\n\n".join(passages + turns)
        if row["answerability"] == ["ANSWERABLE"] and passages and 1_500 <= len(context) <= CONTEXT:
            found.append(task("mtrag", row["task_id"], context, row["input"][-1]["text"].strip(), row["targets"][0]["text"].strip()))
    return found


def nq_tasks(raw):
    """A question, the paragraph that answers it and those of the questions after it; the place of the right one moves
    on from task to task."""
    rows = [row for row in read_json_lines(raw / "nq_open_oracle/nq-open-oracle.jsonl.gz")
            if row["answers"][0] in row["ctxs"][0]["text"] and len(row["answers"][0]) <= 40]
    found = []
    for number in range(PER_SOURCE):
        paragraphs = [f"{row['ctxs'][0]['title']}\n{row['ctxs'][0]['text']}" for row in rows[6 * number:6 * number + 6]]
        place = number % len(paragraphs)
        paragraphs.insert(place, paragraphs.pop(0))
        row = rows[6 * number]
        found.append(task("nq-open", number, "\n\n".join(paragraphs), f"{row['question'].capitalize()}? {IN_QUOTES}",
                          row["answers"][0], 'The answer is "'))
    return found


def record_of(case):
    """The record of conversations in a LongEval prompt."""
    return case["prompt"].split("Now the record start.", 1)[1].split("Now the record ends.", 1)[0]


def longeval_topics_tasks(raw):
    """The first two topics of a long conversation; the question is about the first one."""
    found = []
    for case in read_json_lines(raw / "longeval/5_topics.jsonl"):
        record = record_of(case)
        starts = [at.start() for at in re.finditer("USER: I would like to discuss the topic of", record)]
        found.append(task("longeval-topics", case["test_id"], record[:starts[2]].strip(), "What is the first topic we discussed? Only give me the topic name.",
                          " " + lower_first(case["topics"][0]), "The first topic we discussed is"))
    return found


def lower_first(text):
    return text[:1].lower() + text[1:]


def longeval_lines_tasks(raw):
    """Twenty lines of a register, the one that is asked for among them, at a place that moves from task to task."""
    found = []
    for number, case in enumerate(read_json_lines(raw / "longeval/200_lines.jsonl")):
        lines = re.findall(r"line \S+: REGISTER_CONTENT is <\d+>", case["prompt"])
        right = case["correct_line"].strip()
        others = [line for line in lines if line != right][:19]
        others.insert(number * 7 % 20, right)
        name = case["random_idx"][0]
        found.append(task("longeval-lines", number, "\n".join(others), f"What is the REGISTER_CONTENT of line {name}?", str(case["expected_number"]),
                          f"line {name}: REGISTER_CONTENT is <"))
    return found


def kv_tasks(raw):
    """Six pairs of a key and a value, in JSON as in the source; keys are asked for at each place in turn."""
    found = []
    for number, case in enumerate(read_json_lines(raw / "kv_retrieval/kv-retrieval-75_keys.jsonl.gz")[:LOOKED_UP]):
        pairs = case["ordered_kv_records"][:6]
        key, value = pairs[number % len(pairs)]
        found.append(task("kv-retrieval", number, json.dumps(dict(pairs), indent=1), f'What is the value of the key "{key}"?', value, f'"{key}": "'))
    return found


def xquad_tasks(raw):
    """The first question on a paragraph of each article, with as much of the article around it as fits; the place of the
    paragraph moves on from article to article."""
    found = []
    for number, article in enumerate(read_json(raw / "xquad/xquad.en.json")["data"]):
        paragraphs = [paragraph["context"].strip() for paragraph in article["paragraphs"]]
        place = number % len(paragraphs)
        asked = article["paragraphs"][place]["qas"][0]
        found.append(task("xquad", number, widened(paragraphs, place, place + 1), f"{asked['question'].strip()} {IN_QUOTES}",
                          asked["answers"][0]["text"], 'The answer is "'))
    return [each for each in found if each["context"]]


# Files


def without_repeats(conversations):
    """One conversation of each that begin with the same message of the user: later cuts of one conversation repeat it."""
    seen, kept = set(), []
    for each in conversations:
        first = next(turn["content"] for turn in each["messages"] if turn["role"] == "user")
        if first not in seen:
            seen.add(first)
            kept.append(each)
    return kept


def shortened(conversations, characters):
    return [{**each, "messages": cut(each["messages"], characters)} for each in conversations]


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path, len(rows)


def convert(raw, out, share_alike=False):
    """Writes the files into `out`; [(path, lines)]."""
    chosen, calibration = [], []
    for read in (oasst, mtrag, casino, memorybank, qmsum):
        all_of_them = without_repeats(read(raw))
        chosen += all_of_them[:PER_SOURCE]
        calibration += all_of_them[PER_SOURCE:2 * PER_SOURCE]
    long = [each for source in (qmsum(raw)[:PER_SOURCE], longeval(raw)[:PER_SOURCE]) for each in source if length(each["messages"]) >= 0.75 * LONG]
    tasks = [each for read in (qmsum_tasks, mtrag_tasks, nq_tasks, longeval_topics_tasks) for each in read(raw)[:PER_SOURCE]]
    tasks += [each for read in (longeval_lines_tasks, kv_tasks) for each in read(raw)[:LOOKED_UP]]
    files = [
        write_lines(out / "conversations.jsonl", shortened(chosen, CONVERSATION)),
        write_lines(out / "calibration.jsonl", shortened(calibration, CONVERSATION)),
        write_lines(out / "long.jsonl", shortened(long, LONG)),
        write_lines(out / "tasks.jsonl", tasks),
    ]
    if share_alike:
        files.append(write_lines(out / "conversations-share-alike.jsonl", shortened(topical_chat(raw)[:PER_SOURCE], CONVERSATION)))
        files.append(write_lines(out / "tasks-share-alike.jsonl", xquad_tasks(raw)[:PER_SOURCE]))
    return files
