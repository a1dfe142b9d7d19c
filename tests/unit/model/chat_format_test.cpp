#include "krul/model/chat_format.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "krul/model/tokenizer.hpp"
#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

/// The two shapes of template that are known: line ends in them are real or escaped.
const std::string in_loop =
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe short.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}";
const std::string before_loop =
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{{- 'Use tools.<|im_end|>\\n' }}{%- else %}"
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"
    "{{- '<|im_start|>system\\nBe\\nshort.<|im_end|>\\n' }}{%- endif %}{%- endif %}";

const std::vector<Message> talk = {{"user", "Hello"}, {"assistant", "Hi!"}, {"user", "Why?\n"}};

}  // namespace

TEST_CASE("messages become ChatML") {
  CHECK(render_chat(talk, true) ==
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n"
        "<|im_start|>user\nWhy?\n<|im_end|>\n<|im_start|>assistant\n");
  CHECK(render_chat({}, false) == "");
  CHECK(render_chat({}, true) == "<|im_start|>assistant\n");
}

TEST_CASE("a default system message comes first unless the conversation brings one") {
  const ChatFormat format{"Be short."};
  const std::vector<Message> own = {{"system", "Be long."}, {"user", "Hello"}};
  const std::vector<Message> late = {{"user", "Hello"}, {"system", "Be long."}};
  CHECK(format.render(talk, false) == "<|im_start|>system\nBe short.<|im_end|>\n" + *render_chat(talk, false));
  CHECK(format.render(own, false) == render_chat(own, false));
  CHECK(format.render(late, false) == "<|im_start|>system\nBe short.<|im_end|>\n" + *render_chat(late, false));
  CHECK(format.render({}, false) == "");
}

TEST_CASE("unknown roles are refused with the known ones") {
  const std::vector<Message> messages = {{"user", "Hello"}, {"tool", "4"}};
  const auto text = render_chat(messages, true);
  REQUIRE(!text);
  CHECK(text.error() ==
        Error{ErrorCode::invalid_argument, "role \"tool\" of a message is unknown: use system, user or assistant"});
}

TEST_CASE("the default is read from templates of both known shapes") {
  CHECK(ChatFormat::from_template(in_loop).default_system == "Be short.");
  CHECK(ChatFormat::from_template(before_loop).default_system == "Be\nshort.");
}

TEST_CASE("other templates give ChatML without a default") {
  for (const char* other :
       {"", "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]",
        "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}",
        "{{ '<|im_start|>system\nAlways there.<|im_end|>\n' }}",           // not only where no message brings one
        "{% if messages[0]['role'] %}{{ '<|im_start|>system\nNo end",      //
        "{% if messages[0]['role'] %}{{ '<|im_start|>system A<|im_end|>",  // no line end
        "{% if messages[0]['role'] %}{{ '<|im_start|>system\\nA\\tB<|im_end|>' }}"}) {
    CAPTURE(other);
    CHECK(!ChatFormat::from_template(other).default_system);
  }
}

TEST_CASE("the template is taken from the model file, if it has one") {
  testing::GgufWriter with;
  with.set("tokenizer.chat_template", in_loop);
  const auto bytes = with.bytes();
  const auto file = GgufFile::from_memory(bytes, "chat.gguf");
  REQUIRE(file);
  CHECK(ChatFormat::from_gguf(*file).default_system == "Be short.");
  const auto no_bytes = testing::GgufWriter().bytes();
  const auto without = GgufFile::from_memory(no_bytes, "plain.gguf");
  REQUIRE(without);
  CHECK(!ChatFormat::from_gguf(*without).default_system);
}

TEST_CASE("a conversation goes on with the tokens that the whole of it has") {
  const auto bytes = testing::tiny_model();
  const auto file = GgufFile::from_memory(bytes, "tiny.gguf");
  REQUIRE(file);
  const auto tokenizer = Tokenizer::from_gguf(*file);
  REQUIRE(tokenizer);
  const auto encode = [&](std::string_view text) { return tokenizer->encode(text, Tokenizer::Special::parse); };
  const auto append = [](std::vector<Token>& tokens, const std::vector<Token>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  };

  const ChatFormat format{"Be short."};
  const std::vector<Message> first = {{"user", "Hello the man"}};
  const std::vector<Message> whole = {first[0], {"assistant", "Hi and in "}, {"user", " to the men"}};
  for (const bool ended : {true, false}) {
    auto tokens = encode(*format.render(first, true));
    append(tokens, encode(ended ? "Hi and in <|im_end|>" : "Hi and in "));
    append(tokens, encode(format.render_next_turn(" to the men",
                                                  ended ? ChatFormat::Reply::ended : ChatFormat::Reply::cut_short)));
    CHECK(tokens == encode(*format.render(whole, true)));
  }
}
