"""concepts_test.py COMPILER INCLUDE...: every assertion in concepts.cpp fails, and the message names what is wrong."""
import pathlib
import re
import subprocess
import sys

source = pathlib.Path(__file__).with_name("concepts.cpp")
compiler, includes = sys.argv[1], [f"-I{folder}" for folder in sys.argv[2:]]
run = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-ferror-limit=0" if "clang" in compiler else "-fmax-errors=0",
                      *includes, str(source)], capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
# What the compiler says from one error to the next one, by the line of the error.
said, line = {}, None
for text in run.stderr.splitlines():
    error = re.match(r".*concepts\.cpp:(\d+):\d+: error: (.*)", text)
    if error:
        line = int(error.group(1))
    elif re.match(r".*: error: ", text):
        line = None
    if line:
        said[line] = said.get(line, "") + text + "\n"
wrong = []
for number, text in enumerate(source.read_text().splitlines(), 1):
    wanted = re.match(r"static_assert\((\w+)<(\w+)>\);\s*// says: (\w+)$", text)
    if not wanted:
        continue
    concept, kind, word = wanted.groups()
    # Behind the assertion itself, which the compilers repeat.
    message = "\n".join(each for each in said.get(number, "").splitlines() if "static_assert(" not in each)
    if number not in said:
        wrong.append(f"{kind} models {concept}, or its assertion was not reached")
    elif not re.search(rf"\b{word}\b", message):
        wrong.append(f"what is said of {kind} does not name {word}:\n{message}")
for each in wrong:
    print(each)
checked = len(re.findall(r"// says: ", source.read_text()))
print(f"{compiler}: {checked - len(wrong)} of {checked} messages name what is wrong")
sys.exit(1 if wrong or checked < 27 else 0)
