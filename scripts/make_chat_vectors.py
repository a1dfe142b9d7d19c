#!/usr/bin/env python3
"""Writes tests/vectors/chat_templates.txt: chat templates, and what the `jinja2` package makes of conversations.

    apt-get install python3-jinja2        # or: pip install jinja2==3.1.6
    scripts/make_chat_vectors.py

The templates are written here after what is publicly known of each family's format; blocks are trimmed as
`transformers` has it. A line has fields with a tab between them; \\\\ is a backslash, \\n a line end, \\t a tab:
  template  NAME FAMILY BOS EOS SOURCE   FAMILY is krul's name of the same format, '-' if it has none
  talk      PROMPT TEXT (ROLE CONTENT)*  of the template before it; PROMPT is 1 if a reply is to follow, TEXT is '!' where
                                         the template refuses the conversation
"""

import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
SYSTEM_APART = (
    "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n"
    "    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n"
)
CHATML_TURN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"


def mistral_with_tools(begin, end, reply):
    """Tools are named in the last user's turn, and so is the system message."""
    return (
        SYSTEM_APART + "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
        '{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}\n'
        "{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n{%- for message in loop_messages %}\n"
        '    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and '
        "message.tool_calls is not none)) %}\n"
        '        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}\n'
        '            {{- raise_exception("roles must alternate") }}\n        {%- endif %}\n'
        "        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n{{- bos_token }}\n"
        '{%- for message in loop_messages %}\n    {%- if message["role"] == "user" %}\n'
        "        {%- if tools is not none and (message == user_messages[-1]) %}\n"
        '            {{- "[AVAILABLE_TOOLS] [" }}{{- tools | tojson }}{{- "[/AVAILABLE_TOOLS]" }}\n        {%- endif %}\n'
        "        {%- if loop.last and system_message is defined %}\n"
        f'            {{{{- "{begin}" + system_message + "\\n\\n" + message["content"] + "{end}" }}}}\n'
        f'        {{%- else %}}\n            {{{{- "{begin}" + message["content"] + "{end}" }}}}\n        {{%- endif %}}\n'
        f'    {{%- elif message["role"] == "assistant" %}}\n        {{{{- {reply} + eos_token }}}}\n'
        '    {%- else %}\n        {{- raise_exception("only user and assistant roles are supported") }}\n    {%- endif %}\n'
        "{%- endfor %}\n"
    )


def deepseek(think):
    """System messages are gathered in front; thoughts are left out of earlier replies."""
    content = "message['content'].split('</think>')[-1]" if think else "message['content']"
    return (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}{%- for message in messages %}"
        "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
        "{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
        "{{ '<｜User｜>' + message['content'] }}{%- endif %}"
        "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
        "{%- set content = " + content + " %}{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif %}"
        "{%- endfor -%}{% if add_generation_prompt %}{{ '<｜Assistant｜>" + ("<think>\\n" if think else "") + "' }}{% endif %}"
    )


LLAMA3_TURN = (
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
)
LLAMA3_PROMPT = "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"

# name, family, BOS, EOS, source
TEMPLATES = [
    ("plain ChatML", "chatml", "", "<|im_end|>",
     "{% for message in messages %}" + CHATML_TURN + "{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    ("ChatML with a default system message", "-", "<|im_start|>", "<|im_end|>",
     "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
     "{{ '<|im_start|>system\nYou are short.<|im_end|>\n' }}{% endif %}" + CHATML_TURN + "{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    ("ChatML with tools and an escaped default", "-", "", "<|im_end|>",
     "{# what a comment says is nothing #}\n{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n"
     "    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n"
     "    {{- \"\\n</tools><|im_end|>\\n\" }}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n"
     "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    {%- else %}\n"
     "        {{- '<|im_start|>system\\nYou are \\'long\\'.<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n"
     "{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not "
     "loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n"
     "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
     "    {%- elif message.role == \"assistant\" %}\n        {%- for tool_call in message.tool_calls %}\n"
     "            {{- tool_call.arguments | tojson }}\n        {%- endfor %}\n    {%- endif %}\n{%- endfor %}\n"
     "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"),
    ("ChatML that marks what is learnt", "chatml", "", "<|im_end|>",
     "{%- for message in messages -%}\n{{ '<|im_start|>' ~ message.role ~ '\\n' }}\n"
     "{%- generation -%}{{ message.content }}{%- endgeneration -%}\n{{ '<|im_end|>\\n' }}\n{%- endfor -%}\n"
     "{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}"),
    ("Phi 4", "-", "", "<|im_end|>",
     "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
     "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + "
     "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' "
     "+ message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"),
    ("Llama 2", "llama2", "<s>", "</s>",
     "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
     "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
     "{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ALTERNATE +
     "{% if loop.index0 == 0 and system_message != false %}"
     "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
     "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
     "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
     "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"),
    ("Llama 3", "llama3", "<|begin_of_text|>", "<|eot_id|>",
     "{% set loop_messages = messages %}{% for message in loop_messages %}" + LLAMA3_TURN + "{% endfor %}"
     "{% if add_generation_prompt %}" + LLAMA3_PROMPT + "{% endif %}"),
    ("Llama 3 with a prompt in any case", "llama3", "<|begin_of_text|>", "<|eot_id|>",
     "{% set loop_messages = messages %}{% for message in loop_messages %}" + LLAMA3_TURN + "{% endfor %}" + LLAMA3_PROMPT),
    ("Llama 3.1", "-", "<|begin_of_text|>", "<|eot_id|>",
     "{{- bos_token }}\n{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n{%- endif %}\n"
     "{%- if not tools_in_user_message is defined %}\n    {%- set tools_in_user_message = true %}\n{%- endif %}\n"
     "{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
     "        {%- set date_string = strftime_now(\"%d %b %Y\") %}\n    {%- else %}\n"
     "        {%- set date_string = \"26 Jul 2024\" %}\n    {%- endif %}\n{%- endif %}\n"
     "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n"
     "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n"
     "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{%- if tools is not none %}\n"
     "    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
     "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{%- if tools is not none and not tools_in_user_message %}\n"
     "    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n    {%- endfor %}\n{%- endif %}\n"
     "{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- if tools_in_user_message and not tools is none %}\n"
     "    {{- raise_exception(\"no tools here\") }}\n{%- endif %}\n{%- for message in messages %}\n"
     "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
     "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + "
     "'<|eot_id|>' }}\n    {%- elif 'tool_calls' in message %}\n"
     "        {{- message.tool_calls[0].function.arguments | tojson }}\n    {%- endif %}\n{%- endfor %}\n"
     "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"),
    ("Mistral, the first", "-", "<s>", "</s>",
     "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
     "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
     "{{ message['content'] + eos_token + ' ' }}{% else %}"
     "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"),
    ("Mistral v1", "mistral-v1", "<s>", "</s>",
     SYSTEM_APART + "\n{{- bos_token }}\n{%- for message in loop_messages %}\n    "
     "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
     "        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if message['role'] == 'user' %}\n"
     "        {%- if loop.first and system_message is defined %}\n"
     "            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n"
     "        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n"
     "    {%- elif message['role'] == 'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n"
     "    {%- else %}\n        {{- raise_exception('only user and assistant') }}\n    {%- endif %}\n{%- endfor %}\n"),
    ("Mistral v3", "mistral-v3", "<s>", "</s>",
     mistral_with_tools("[INST] ", "[/INST]", '" " + message["content"]|trim')),
    ("Mistral v3 tekken", "mistral-v3-tekken", "<s>", "</s>",
     mistral_with_tools("[INST]", "[/INST]", 'message["content"]')),
    ("Mistral v7", "-", "<s>", "</s>",
     "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
     "{{ '[INST]' + message['content'] + '[/INST]' }}{% elif message['role'] == 'system' %}"
     "{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == 'assistant' %}"
     "{{ message['content'] + eos_token }}{% else %}{{ raise_exception('roles') }}{% endif %}{% endfor %}"),
    ("Zephyr", "zephyr", "<s>", "</s>",
     "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
     "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
     "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
     "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
     "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"),
    ("Gemma", "gemma", "<bos>", "<eos>",
     "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
     "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
     "{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim "
     "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    ("Gemma 3", "-", "<bos>", "<eos>",
     "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- if messages[0]['content'] is string -%}\n"
     "        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    {%- else -%}\n"
     "        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}\n    {%- endif -%}\n"
     "    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n"
     "    {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n"
     "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
     "        {{ raise_exception(\"roles must alternate\") }}\n    {%- endif -%}\n"
     "    {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n"
     "        {%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\n' + "
     "(first_user_prefix if loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n"
     "        {{ message['content'] | trim }}\n    {%- elif message['content'] is iterable -%}\n"
     "        {%- for item in message['content'] -%}\n            {{ item['text'] | trim }}\n        {%- endfor -%}\n"
     "    {%- else -%}\n        {{ raise_exception(\"Invalid content type\") }}\n    {%- endif -%}\n"
     "    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n"
     "{%- endif -%}\n"),
    ("Phi 3", "phi3", "<s>", "<|endoftext|>",
     "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + "
     "'<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
     "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
     "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"),
    ("Phi 3, the first", "-", "<s>", "<|endoftext|>",
     "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "
     "message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}"
     "{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"),
    ("DeepSeek LLM", "deepseek-llm", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
     "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
     "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
     "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
     "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"),
    ("DeepSeek V3", "deepseek-v3", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", deepseek(False)),
    ("DeepSeek R1", "-", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", deepseek(True)),
    ("DeepSeek R1, distilled", "-", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
     "{{ bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
     "{{ '<｜User｜>' + message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not "
     "none %}{% set content = message['content'] %}{% if '</think>' in content %}"
     "{% set content = content.split('</think>')[-1] %}{% endif %}"
     "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif %}{%- endfor -%}"
     "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"),
]

# Conversations: letters are roles.
CONVERSATIONS = [
    [("u", "Hello")],
    [("u", "Hello"), ("a", "Hi!")],
    [("u", "Hello"), ("a", "Hi!"), ("u", "Why?\n\nAnd how?")],
    [("u", "  Hello \n"), ("a", "\n Hi!\t"), ("u", "\u3000Why? \u00a0"), ("a", " Because. ")],
    [("u", "1"), ("a", "2"), ("u", "3"), ("a", "4"), ("u", "5"), ("a", "6"), ("u", "7")],
    [("s", "Be kind."), ("u", "Hello")],
    [("s", " Be kind.\n"), ("u", "\n Hello "), ("a", "Hi!"), ("u", "Why?")],
    [("s", "Be kind."), ("u", "Hello"), ("a", "Hi!")],
    [("u", "Hello"), ("a", "Hi!"), ("s", "Be kind."), ("u", "Why?")],
    [("u", "Hello"), ("u", "Anybody there?")],
    [("a", "Welcome."), ("u", "Hello")],
    [("u", "Hello"), ("a", "<think>\nA greeting.\n</think>\n\nHi!"), ("u", "Why?")],
    [("u", "{{ x }} {% if %} 'quoted' \"twice\" \\n")],
    [("u", "What is </think>?"), ("a", "An end</think> of </think>thoughts."), ("u", "</think>")],
    [("u" if i % 2 == 0 else "a", str(i)) for i in range(25)],
]
ROLES = {"u": "user", "a": "assistant", "s": "system"}


def render(source, **values):
    class Generation(jinja2.ext.Extension):
        """Marks what is learnt in training; nothing else."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def refuse(why):
        raise jinja2.TemplateError(why)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation])
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(source).render(tools=None, documents=None, **values)
    except jinja2.TemplateError:
        return "!"


def field(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def main():
    lines = []
    for name, family, bos, eos, source in TEMPLATES:
        lines.append(["template", name, family, bos, eos, source])
        for conversation in CONVERSATIONS:
            messages = [{"role": ROLES[role], "content": content} for role, content in conversation]
            for prompt in (False, True):
                text = render(source, messages=messages, add_generation_prompt=prompt, bos_token=bos, eos_token=eos)
                lines.append(["talk", str(int(prompt)), text, *(part for m in messages for part in (m["role"], m["content"]))])
    file = pathlib.Path(__file__).resolve().parent.parent / "tests" / "vectors" / "chat_templates.txt"
    file.write_text("".join("\t".join(map(field, line)) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(TEMPLATES)} templates, {len(lines) - len(TEMPLATES)} conversations in {file.name}")


if __name__ == "__main__":
    main()
