#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "krul/model/chat_format.hpp"

using namespace krul;

namespace {

std::string unescaped(std::string_view field) {
  std::string text;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] != '\\') {
      text += field[i];
      continue;
    }
    const char escape = field[++i];
    text += escape == 'n' ? '\n' : escape == 't' ? '\t' : escape;
  }
  return text;
}

/// The fields of each line that scripts/make_chat_vectors.py wrote.
std::vector<std::vector<std::string>> read_vectors() {
  std::ifstream file(KRUL_TEST_VECTORS "/chat_templates.txt");
  std::vector<std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    auto& fields = lines.emplace_back();
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = line.find('\t', begin);
      fields.push_back(unescaped(std::string_view(line).substr(begin, end - begin)));
    }
  }
  return lines;
}

Result<ChatFormat> learn(std::string_view source) {
  return ChatFormat::from_template(source, "<s>", "</s>");
}

void check_unknown(std::string_view source, std::string_view what) {
  const auto format = learn(source);
  CAPTURE(source);
  REQUIRE(!format);
  CHECK(format.error().code == ErrorCode::unsupported);
  CAPTURE(format.error().message);
  CHECK(format.error().message.find(what) != std::string::npos);
}

}  // namespace

TEST_CASE("conversations are rendered as their templates render them") {
  const auto lines = read_vectors();
  REQUIRE(lines.size() > 500);
  Result<ChatFormat> format;
  std::string template_name, eos;
  std::size_t rendered = 0;
  for (const auto& line : lines) {
    if (line[0] == "template") {
      template_name = line[1];
      CAPTURE(template_name);
      eos = line[4];
      format = ChatFormat::from_template(line[5], line[3], line[4]);
      REQUIRE_MESSAGE(format, (format ? "" : format.error().message));
      if (line[2] != "-") {
        auto family = ChatFormat::named(line[2], line[3], line[4]).value();
        // Where a text is cut makes no difference if a prompt always follows.
        if (template_name.find("in any case") == std::string::npos) CHECK((*format == family));
      }
      continue;
    }
    std::vector<Message> messages;
    for (std::size_t i = 3; i < line.size(); i += 2) messages.push_back({line[i], line[i + 1]});
    const bool prompt = line[1] == "1";
    const std::string& expected = line[2];
    const auto ours = format->render(messages, prompt);
    CAPTURE(template_name);
    CAPTURE(expected);
    CAPTURE(messages.size());
    if (!ours) continue;  // a refusal is no rendering
    ++rendered;
    const bool always_prompts = template_name.find("in any case") != std::string::npos;
    if (always_prompts && (!prompt || messages.back().role == "assistant")) continue;
    // Texts stay open: some templates close them with EOS where no reply is to follow.
    CHECK((ours->text() == expected || (!prompt && ours->text() + eos == expected)));
  }
  CHECK(rendered > 350);
}

TEST_CASE("what a template has beside its turns changes nothing") {
  const std::string turns =
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  const auto chatml = ChatFormat::named("chatml", "<s>", "</s>").value();
  CHECK((learn(turns).value() == chatml));
  CHECK((learn("{#- Licence: none -#}\n" + turns).value() == chatml));
  CHECK((learn("{%- macro unused(x) -%}{{ x | tojson }}{%- endmacro -%}" + turns + "\n").value() == chatml));
  CHECK((learn("{% if tools %}{{ tools | tojson }}{% endif %}" + turns).value() == chatml));
  CHECK((learn("{%- set x = messages | length -%}\r\n" + turns).value() == chatml));
}

TEST_CASE("an edit that changes what is written changes the format") {
  const auto edited = [](const std::string& role_end, const std::string& prompt) {
    return learn("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '" + role_end +
                 "' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant" +
                 prompt + "' }}{% endif %}");
  };
  CHECK(edited("\\n\\n", "\\n\\n").value().user.before == "<|im_start|>user\n\n");
  CHECK(edited("\\n", "\\n<think>\\n").value().generation_prompt == "<|im_start|>assistant\n<think>\n");
  CHECK(edited("\\n", "\\n<think>\\n").value().assistant.before == "<|im_start|>assistant\n");
}

TEST_CASE("a template whose system messages are out of rule has none") {
  const auto format = learn(
      "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + m.content }}{% else %}"
      "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  REQUIRE(format);
  CHECK(format->system_place == ChatFormat::SystemPlace::nowhere);
}

TEST_CASE("templates that krul does not know are refused by what it does not know in them") {
  check_unknown("{{ messages | tojson }}", "'tojson'");
  check_unknown("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "'upper'");
  check_unknown("{% for m in messages %}{{ strftime_now('%d') }}{{ m.content }}{% endfor %}", "'strftime_now'");
  check_unknown("{% include 'x' %}", "'include'");
  check_unknown("{% for m in messages %}{{ m.content }}", "without an end");
  check_unknown("{{ 'a", "without an end");
  check_unknown("{{ 1 < 'a' }}", "no numbers");
  check_unknown("{% endfor %}", "'endfor'");
  check_unknown("{% macro m() %}{% endmacro %}{{ m() }}", "function 'm'");
  check_unknown("{{ 'a' 'b' }}", "'b'");
  check_unknown("{{ messages[0]['content'] - 1 }}", "'-'");
  check_unknown("{{ raise_exception('not today') }}", "not today");
  // Renders, but not turn by turn.
  check_unknown("", "its turns");
  check_unknown("{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]", "its turns");
  check_unknown("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", "its turns");
  check_unknown("{% for m in messages %}{{ loop.index }}{{ m.content }}\n{% endfor %}", "its turns");
  check_unknown("{% for m in messages[-6:] %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}", "several turns");
  check_unknown("{% for m in messages[-2:] %}{{ m.role + m.content }}\n{% endfor %}", "its turns");
}

TEST_CASE("what would depend on what a message says is refused by name") {
  const auto chatml = [](const std::string& content) {
    return "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + " + content +
           " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  };
  REQUIRE(learn(chatml("m.content")));
  check_unknown(chatml("(m.content + (' W' if 'weather' in m.content else ''))"), "'in' of what a message says");
  check_unknown(chatml("(m.content if m.content not in ['a'] else '')"), "'in' of what a message says");
  check_unknown(chatml("(m.content + ('X' if m.content|length > 3000 else ''))"), "length of what a message says");
  check_unknown(chatml("(m.content + ('X' if (m.content ~ '!')|length > 3000 else ''))"), "length of what");
  check_unknown(chatml("(m.content + ('X' if m.content == 'ping' else ''))"), "'==' of what a message says");
  check_unknown(chatml("(m.content + ('X' if m.content is eq('ping') else ''))"), "'==' of what a message says");
  check_unknown(chatml("(m.content + ('X' if m == messages[0] else ''))"), "'==' of messages");
  check_unknown(chatml("(m.content + (' [no]' if m.content.endswith('/no_think') else ''))"), "'endswith' of what");
  check_unknown(chatml("('' if m.content.startswith('#') else m.content)"), "'startswith' of what");
  check_unknown(chatml("m.content.split('|')[0]"), "'split' of what");
  check_unknown(chatml("('X' if m.content.split('</think>')|length > 2 else m.content)"), "length of what");
  check_unknown(chatml("('X' if m.content.split('</think>')[1] else m.content)"), "part of what");
  check_unknown(chatml("('X' if m.content.split('</think>')[1:] else m.content)"), "slice of what");
  check_unknown(chatml("m.content.strip('\n')"), "'strip'");
  check_unknown("{% for m in messages %}{% if m.content|trim %}" + chatml("m.content") + "{% endif %}{% endfor %}",
                "condition on a part of what a message says");
  // With a look that changes nothing where nothing hangs on it: what is not reached, kinds, and whether there is a
  // text.
  const auto plain = ChatFormat::named("chatml", "<s>", "</s>").value();
  for (const auto* content :
       {"(m.content if m.content is string else m.content[0]['text'])", "(m.content if m.content else 'nothing')",
        "(m.content if m.content is not none else '')", "('x' if false and 'weather' in m.content else m.content)",
        "('x' if tools and m == messages[0] else m.content)", "m.content|string|default('x', true)",
        "(m.content if m.content != false else '')"})
    CHECK_MESSAGE((learn(chatml(content)) == plain), content);
}

TEST_CASE("the end of thoughts means something in replies, and means the same in all") {
  const auto chatml = [](const std::string& user, const std::string& assistant) {
    return "{% for m in messages %}{% if m.role == 'assistant' %}{% set c = " + assistant +
           " %}{% else %}{% set c = " + user +
           " %}{% endif %}{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}{% endfor %}" +
           "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  };
  const std::string plain = "m.content", last = "m.content.split('</think>')[-1]";
  CHECK_FALSE(learn(chatml(plain, plain)).value().drops_thoughts);
  CHECK(learn(chatml(plain, last)).value().drops_thoughts);
  CHECK(learn(chatml(plain, "(" + last + " if '</think>' in m.content else m.content)")).value().drops_thoughts);
  check_unknown(chatml(last, plain), "</think>");
  check_unknown(chatml(last, last), "</think>");
  check_unknown(chatml(plain, "m.content.split('</think>')[0]"), "</think>");
  check_unknown(chatml(plain, "('' if '</think>' in m.content else m.content)"), "</think>");
  check_unknown(chatml("(m.content + '!' if '</think>' in m.content else m.content)", last), "</think>");
}

TEST_CASE("a template that tells turns apart by counting them is refused, however late it does so") {
  const auto counted = [](const std::string& messages, const std::string& mark) {
    return "{% set ns = namespace(i=0) %}{% for m in " + messages + " %}{{ '<|im_start|>' + m.role + '\n' + m.content" +
           mark + " + '<|im_end|>\n' }}{% set ns.i = ns.i + 1 %}{% endfor %}" +
           "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  };
  REQUIRE(learn(counted("messages", "")));
  for (const auto* number : {"7", "8", "19", "20", "63", "100"}) {
    CAPTURE(number);
    const std::string n = number;
    check_unknown(counted("messages[-" + n + ":]", ""), "several turns");
    check_unknown(counted("messages[:" + n + "]", ""), "several turns");
    for (const auto* count : {"loop.index0", "loop.index", "loop.revindex", "messages|length", "ns.i"}) {
      check_unknown(counted("messages", " + ('X' if " + (count + (" > " + n)) + " else '')"), "several turns");
      check_unknown(counted("messages", " + ('X' if " + (count + (" == " + n)) + " else '')"), "several turns");
    }
    check_unknown(counted("messages", " + ('X' if loop.index0 % " + n + " == 5 else '')"), "turns");
    check_unknown(counted("messages", " + ('X' if m.role == 'assistant' and ns.i >= " + n + " else '')"), "turns");
  }
  check_unknown(counted("messages[-4000:]", ""), "numbers so large");
  check_unknown(counted("messages", " + ('X' if loop.index0 > 10 * 10 else '')"), "'*'");
}

TEST_CASE("a template that never ends is stopped") {
  std::string loops, ends;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}) {
    loops += std::string("{% for ") + name + " in [1, 2, 3, 4, 5, 6, 7, 8, 9] %}";
    ends += "{% endfor %}";
  }
  check_unknown(loops + "x" + ends, "so many steps");
  check_unknown("{% set s = namespace(x='aaaaaaaaaaaaaaaa') %}" + loops + "{% set s.x = s.x + s.x %}" + ends,
                "of that length");
  check_unknown("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}", "so deep");
  check_unknown("{{ " + std::string(5000, '[') + "1" + std::string(5000, ']') + " }}", "so deep");
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if true %}";
  check_unknown(blocks, "so deep");
  std::string choices = "{{ 1";
  for (int i = 0; i < 5000; ++i) choices += " if false else 1";
  check_unknown(choices + " }}", "so deep");
}
