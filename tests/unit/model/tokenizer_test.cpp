#include "krul/model/tokenizer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

namespace {

/// A vocabulary that owns its texts, to be bent in tests.
struct Owned {
  std::string pre_tokenizer = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<std::int64_t> kinds;
  std::vector<std::string> merges;
  std::vector<std::uint64_t> turn_ends;

  Vocabulary view() const {
    return {pre_tokenizer, {tokens.begin(), tokens.end()}, kinds, {merges.begin(), merges.end()}, turn_ends};
  }
  Token add(std::string token, std::int64_t kind = Vocabulary::normal) {
    tokens.push_back(std::move(token));
    kinds.push_back(kind);
    return static_cast<Token>(tokens.size() - 1);
  }
  Token merge(const std::string& left, const std::string& right) {
    merges.push_back(left + " " + right);
    return add(left + right);
  }
};

/// Token b is byte b.
Owned bytes_only() {
  Owned vocabulary;
  for (unsigned byte = 0; byte < 256; ++byte) vocabulary.add(testing::byte_letter(byte));
  return vocabulary;
}

Tokenizer make(const Owned& vocabulary) {
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary.view());
  REQUIRE_MESSAGE(tokenizer, (tokenizer ? "" : tokenizer.error().message));
  return std::move(*tokenizer);
}

Error error_of(const Owned& vocabulary) {
  const auto tokenizer = Tokenizer::from_vocabulary(vocabulary.view());
  REQUIRE(!tokenizer);
  return tokenizer.error();
}

/// Merging as it is defined: look through all pairs, merge the first one of the lowest rank, start again.
std::vector<std::string> merge_slowly(const Owned& vocabulary, std::string_view word) {
  std::map<std::pair<std::string, std::string>, std::size_t> rank_of;
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const auto gap = vocabulary.merges[rank].find(' ');
    rank_of.emplace(std::pair(vocabulary.merges[rank].substr(0, gap), vocabulary.merges[rank].substr(gap + 1)), rank);
  }
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  for (;;) {
    auto best = rank_of.end();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = rank_of.find({symbols[i], symbols[i + 1]});
      if (found == rank_of.end() || (best != rank_of.end() && best->second <= found->second)) continue;
      best = found;
      at = i;
    }
    if (best == rank_of.end()) return symbols;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

using Tokens = std::vector<Token>;

}  // namespace

TEST_CASE("merges are applied by rank, the leftmost of equals first") {
  Owned vocabulary = bytes_only();
  const Token bc = vocabulary.merge("b", "c");
  const Token ab = vocabulary.merge("a", "b");
  const Token abc = vocabulary.merge("ab", "c");
  const Token aa = vocabulary.merge("a", "a");
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer.encode("abc") == Tokens{'a', bc});
  CHECK(tokenizer.encode("ab") == Tokens{ab});
  CHECK(tokenizer.encode("aaa") == Tokens{aa, 'a'});
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.bytes(abc) == "abc");
}

TEST_CASE("merging equals the definition on random vocabularies and words") {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    Owned vocabulary = bytes_only();
    std::vector<std::string> parts = {"a", "b", "c"};
    for (int i = 0; i < 25; ++i) {
      const auto left = parts[random() % parts.size()];
      const auto right = parts[random() % parts.size()];
      if (std::find(parts.begin(), parts.end(), left + right) == parts.end()) {
        parts.push_back(left + right);
        vocabulary.merge(left, right);
      } else if (std::find(vocabulary.merges.begin(), vocabulary.merges.end(), left + " " + right) ==
                 vocabulary.merges.end()) {
        vocabulary.merges.push_back(left + " " + right);  // a second way to the same token
      }
    }
    const auto tokenizer = make(vocabulary);
    for (int i = 0; i < 20; ++i) {
      std::string word(1 + random() % 60, ' ');
      for (auto& c : word) c = static_cast<char>('a' + random() % 3);
      std::vector<std::string> found;
      for (const Token token : tokenizer.encode(word)) found.emplace_back(tokenizer.bytes(token));
      CAPTURE(word);
      CHECK(found == merge_slowly(vocabulary, word));
    }
  }
}

TEST_CASE("a word of a million letters is merged whole") {
  Owned vocabulary = bytes_only();
  std::string run = "a";
  Token longest = 'a';
  while (run.size() < 1024) {
    longest = vocabulary.merge(run, run);
    run += run;
  }
  const auto tokens = make(vocabulary).encode(std::string(1 << 20, 'a'));
  CHECK(tokens == Tokens(1024, longest));
}

TEST_CASE("any bytes come back") {
  const auto file = testing::tiny_model();
  const auto gguf = GgufFile::from_memory(file, "tiny.gguf");
  REQUIRE(gguf);
  const auto tokenizer = Tokenizer::from_gguf(*gguf);
  REQUIRE(tokenizer);
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 80, '\0');
    for (auto& c : text) c = static_cast<char>(random() % 3 ? random() : "the <|im_end|>"[random() % 14]);
    if (round % 5 == 0) text.insert(random() % (text.size() + 1), "<|im_start|>");
    REQUIRE(tokenizer->decode(tokenizer->encode(text)) == text);
    REQUIRE(tokenizer->decode(tokenizer->encode(text, Tokenizer::Special::parse)) == text);
  }
  for (unsigned byte = 0; byte < 256; ++byte) CHECK(tokenizer->has_token(static_cast<unsigned char>(byte)));
}

TEST_CASE("control tokens are read only where asked for, user-defined ones always, the longest name first") {
  Owned vocabulary = bytes_only();
  const Token end = vocabulary.add("<|end|>", Vocabulary::control);
  const Token end_all = vocabulary.add("<|end|>all", Vocabulary::control);
  const Token tool = vocabulary.add("<tool>", Vocabulary::user_defined);
  vocabulary.add("[PAD]", Vocabulary::unused);
  const auto tokenizer = make(vocabulary);
  using enum Tokenizer::Special;
  CHECK(tokenizer.encode("a<|end|>b", parse) == Tokens{'a', end, 'b'});
  CHECK(tokenizer.encode("a<|end|>b", as_text) == Tokens{'a', '<', '|', 'e', 'n', 'd', '|', '>', 'b'});
  CHECK(tokenizer.encode("<|end|>all<|end|>", parse) == Tokens{end_all, end});
  CHECK(tokenizer.encode("<tool>", as_text) == Tokens{tool});
  CHECK(tokenizer.encode("<<tool>", parse) == Tokens{'<', tool});
  CHECK(tokenizer.encode("[PAD]", parse).size() == 5);
  CHECK(tokenizer.decode(Tokens{end, tool, 'a'}) == "<|end|><tool>a");
  CHECK(tokenizer.special("<tool>") == tool);
  CHECK(!tokenizer.special("[PAD]"));
}

TEST_CASE("a control token ends the blanks before it") {
  Owned vocabulary = bytes_only();
  const Token two = vocabulary.merge(testing::byte_letter(' '), testing::byte_letter(' '));
  const Token end = vocabulary.add("<|end|>", Vocabulary::control);
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer.encode("a  <|end|>  b", Tokenizer::Special::parse) == Tokens{'a', two, end, ' ', ' ', 'b'});
}

TEST_CASE("llama-bpe takes a piece that is a token as it is") {
  Owned vocabulary = bytes_only();
  const Token abc = vocabulary.add("abc");  // no merges lead there
  CHECK(make(vocabulary).encode("abc") == Tokens{'a', 'b', 'c'});
  vocabulary.pre_tokenizer = "llama-bpe";
  CHECK(make(vocabulary).encode("abc") == Tokens{abc});
}

TEST_CASE("a byte without a token leaves none, and its neighbours merge") {
  Owned vocabulary = bytes_only();
  vocabulary.tokens[4] = "unreachable";
  const Token two = vocabulary.merge("!", "!");
  const auto tokenizer = make(vocabulary);
  CHECK(!tokenizer.has_token(4));
  CHECK(tokenizer.encode("!\x04!") == Tokens{two});
}

TEST_CASE("a turn ends with the file's tokens and those known by name") {
  Owned vocabulary = bytes_only();
  const Token im_end = vocabulary.add("<|im_end|>", Vocabulary::control);
  const Token end_of_text = vocabulary.add("<|endoftext|>", Vocabulary::control);
  const Token im_start = vocabulary.add("<|im_start|>", Vocabulary::control);
  vocabulary.turn_ends = {7};
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer.ends_turn(im_end));
  CHECK(tokenizer.ends_turn(end_of_text));
  CHECK(tokenizer.ends_turn(7));
  for (const char* name : {"<|eot_id|>", "<end_of_turn>", "<|end|>", "</s>", "<｜end▁of▁sentence｜>"}) {
    Owned other = bytes_only();
    const Token end = other.add(name, Vocabulary::control);
    CHECK(make(other).ends_turn(end));
  }
  CHECK(!tokenizer.ends_turn(im_start));
  CHECK(!tokenizer.ends_turn(-1));
}

TEST_CASE("texts begin and end as the file says, or as its pre-tokenizer has it") {
  const auto ends_of = [](const Owned& vocabulary, std::optional<bool> begin, bool end) {
    Vocabulary view = vocabulary.view();
    view.text_begin = 'B';
    view.text_end = 'E';
    view.add_begin = begin;
    view.add_end = end;
    const auto tokenizer = Tokenizer::from_vocabulary(view);
    REQUIRE(tokenizer);
    CHECK(tokenizer->encode("a") == Tokens{'a'});  // a part of a text has neither
    return std::pair(tokenizer->text_begin(), tokenizer->text_end());
  };
  using Ends = std::pair<std::optional<Token>, std::optional<Token>>;
  Owned vocabulary = bytes_only();
  for (const char* silent : {"gpt-2", "smollm", "qwen2"}) {
    vocabulary.pre_tokenizer = silent;
    CHECK(ends_of(vocabulary, {}, false) == Ends{});
  }
  CHECK(ends_of(vocabulary, true, false) == Ends{'B', {}});
  CHECK(ends_of(vocabulary, false, true) == Ends{{}, 'E'});
  vocabulary.pre_tokenizer = "llama-bpe";
  CHECK(ends_of(vocabulary, {}, false) == Ends{'B', {}});
  CHECK(ends_of(vocabulary, false, true) == Ends{{}, 'E'});
}

TEST_CASE("flags of texts are read from the model file") {
  const auto tokenizer_of = [](const testing::TinyModel& options) {
    const auto bytes = testing::tiny_model(options);
    return Tokenizer::from_gguf(GgufFile::from_memory(bytes, "tiny.gguf").value()).value();
  };
  CHECK(!tokenizer_of({}).text_begin());
  CHECK(!tokenizer_of({.add_bos = {}}).text_begin());
  CHECK(tokenizer_of({.add_bos = true}).text_begin() == 1);  // "<|im_start|>", as in SmolLM2's file
  CHECK(tokenizer_of({.add_bos = {}, .pre_tokenizer = "llama-bpe"}).text_begin() == 1);
  CHECK(!tokenizer_of({.add_bos = false, .pre_tokenizer = "llama-bpe"}).text_begin());
  CHECK(!tokenizer_of({}).text_end());
  CHECK(tokenizer_of({.add_eos = true}).text_end() == 2);
  CHECK(!tokenizer_of({.add_eos = false}).text_end());
}

TEST_CASE("the hash changes with everything that changes tokens") {
  Owned vocabulary = bytes_only();
  vocabulary.merge("a", "b");
  vocabulary.merge("c", "d");
  vocabulary.add("<|end|>", Vocabulary::control);
  const auto hash = make(vocabulary).hash();
  CHECK(hash.size() == 32);
  CHECK(hash.find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(make(vocabulary).hash() == hash);

  Owned other = vocabulary;
  other.pre_tokenizer = "qwen2";
  CHECK(make(other).hash() != hash);
  other = vocabulary;
  std::swap(other.merges[0], other.merges[1]);
  CHECK(make(other).hash() != hash);
  other = vocabulary;
  other.kinds.back() = Vocabulary::user_defined;
  CHECK(make(other).hash() != hash);
  other = vocabulary;
  other.tokens.back() = "<|End|>";
  CHECK(make(other).hash() != hash);
}

TEST_CASE("the hash of what tokens mean changes with their texts alone, and with where they are cut") {
  Owned vocabulary = bytes_only();
  vocabulary.merge("a", "b");
  vocabulary.add("<|end|>", Vocabulary::control);
  const auto first = make(vocabulary);
  const Tokens tokens = {65, 256, 257, 66};
  const auto hash = first.texts_hash(tokens);
  CHECK(hash.size() == 32);

  Owned other = vocabulary;
  other.pre_tokenizer = "qwen2";
  other.add("<|unused|>", Vocabulary::control);
  REQUIRE(make(other).hash() != first.hash());
  CHECK(make(other).texts_hash(tokens) == hash);
  other.tokens[257] = "<|End|>";
  CHECK(make(other).texts_hash(tokens) != hash);
  CHECK(make(other).texts_hash(Tokens{65, 66}) == first.texts_hash(Tokens{65, 66}));

  REQUIRE(first.decode(Tokens{97, 98}) == first.decode(Tokens{256}));
  CHECK(first.texts_hash(Tokens{97, 98}) != first.texts_hash(Tokens{256}));
  CHECK(first.texts_hash(Tokens{65, 258}).empty());
  CHECK(first.texts_hash(Tokens{-1}).empty());
}

TEST_CASE("tokens outside the vocabulary are the caller's mistake") {
  const auto tokenizer = make(bytes_only());
  CHECK(tokenizer.size() == 256);
  CHECK_THROWS_AS(static_cast<void>(tokenizer.bytes(-1)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(tokenizer.bytes(256)), PreconditionError);
  CHECK_THROWS_AS(static_cast<void>(tokenizer.decode(Tokens{0, 256})), PreconditionError);
}

TEST_CASE("a text of 4 GiB is the caller's mistake") {
  const std::string_view text("a", std::size_t{1} << 32);  // refused before it is read
  CHECK_THROWS_AS(static_cast<void>(make(bytes_only()).encode(text)), PreconditionError);
}

TEST_CASE("malformed vocabularies are refused with a sentence") {
  Owned vocabulary = bytes_only();
  SUBCASE("unknown pre-tokenizer") {
    vocabulary.pre_tokenizer = "tekken";
    CHECK(error_of(vocabulary).code == ErrorCode::unsupported);
    CHECK(error_of(vocabulary).message.find("\"tekken\"") != std::string::npos);
  }
  SUBCASE("a byte of text without a token") {
    vocabulary.tokens['q'] = "unreachable";
    CHECK(error_of(vocabulary) == Error{ErrorCode::corrupt,
                                        "the vocabulary has no token for the single byte 113: byte-level BPE needs "
                                        "one; get the file again"});
  }
  SUBCASE("a token twice") {
    vocabulary.add("a");
    CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
  }
  SUBCASE("a token that is too long") {
    vocabulary.add(std::string((1 << 16) + 1, 'a'));
    CHECK(error_of(vocabulary).code == ErrorCode::too_large);
  }
  SUBCASE("too many tokens") {
    vocabulary.tokens.assign((std::size_t{1} << 21) + 1, "a");
    CHECK(error_of(vocabulary).code == ErrorCode::too_large);
  }
  SUBCASE("too many merges") {
    vocabulary.merges.assign((std::size_t{1} << 22) + 1, "a b");
    CHECK(error_of(vocabulary).code == ErrorCode::too_large);
  }
  SUBCASE("an unknown kind") {
    for (const std::int64_t kind : {7, -1}) {
      vocabulary.kinds[0] = kind;
      CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
    }
  }
  SUBCASE("kinds for other tokens") {
    vocabulary.kinds.pop_back();
    CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
  }
  SUBCASE("a merge of what is no token, into what is no token, of no pair") {
    vocabulary.add("ab");
    for (const char* merge : {"a zz", "zz b", "b a", "ab", "", " ab", "ab ", "a b c"}) {
      vocabulary.merges = {merge};
      CAPTURE(merge);
      CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
      CHECK(error_of(vocabulary).message.find("merge 0") == 0);
    }
  }
  SUBCASE("texts that begin or end beyond the vocabulary") {
    Vocabulary view = vocabulary.view();
    view.text_begin = view.text_end = 256;
    CHECK(Tokenizer::from_vocabulary(view));  // nothing uses them
    view.add_end = true;
    CHECK(Tokenizer::from_vocabulary(view).error().code == ErrorCode::corrupt);
    view.add_end = false;
    view.add_begin = true;
    CHECK(Tokenizer::from_vocabulary(view).error().code == ErrorCode::corrupt);
  }
  SUBCASE("a turn that ends beyond the vocabulary") {
    vocabulary.turn_ends = {256};
    CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
  }
}

TEST_CASE("a token outside the alphabet of bytes stands for its own text") {
  Owned vocabulary = bytes_only();
  const Token odd = vocabulary.add("a b");
  const Token wide = vocabulary.add("\u6f22");
  const Token cut = vocabulary.add("\xc4");
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer.bytes(odd) == "a b");
  CHECK(tokenizer.bytes(wide) == "\u6f22");
  CHECK(tokenizer.bytes(cut) == "\xc4");
}

TEST_CASE("padding without a name or a kind, and a vocabulary without kinds, are no obstacle") {
  Owned vocabulary = bytes_only();
  const Token ab = vocabulary.merge("a", "b");
  const Token empty = vocabulary.add(""), another = vocabulary.add("", Vocabulary::unused);
  const Token undefined = vocabulary.add("[PAD]", Vocabulary::undefined);
  const Token end = vocabulary.add("<|im_end|>", Vocabulary::control);
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer.bytes(empty) == "[EMPTY_" + std::to_string(empty) + "]");
  CHECK(tokenizer.bytes(another) == "[EMPTY_" + std::to_string(another) + "]");
  CHECK(tokenizer.bytes(undefined) == "[PAD]");
  CHECK(tokenizer.encode("ab") == Tokens{ab});
  CHECK(tokenizer.encode("[PAD]", Tokenizer::Special::parse).size() == 5);
  vocabulary.merges.push_back("ab ");  // an empty token is no part of a merge
  CHECK(error_of(vocabulary).code == ErrorCode::corrupt);
  vocabulary.merges.pop_back();
  vocabulary.kinds.clear();
  const auto without = make(vocabulary);
  CHECK(without.encode("ab<|im_end|>", Tokenizer::Special::parse) == Tokens{ab, end});
  CHECK(without.ends_turn(end));
}

TEST_CASE("model files without what a tokenizer needs are refused") {
  const auto error_of_file = [](const std::string& without, const std::string& model) {
    const auto vocabulary = testing::tiny_vocabulary(320, true);
    testing::GgufWriter file;
    if (without != "model") file.set("tokenizer.ggml.model", model);
    if (without != "pre") file.set("tokenizer.ggml.pre", std::string("smollm"));
    if (without != "tokens") file.set("tokenizer.ggml.tokens", vocabulary.tokens);
    if (without != "token_type") file.set("tokenizer.ggml.token_type", vocabulary.types);
    if (without != "merges") file.set("tokenizer.ggml.merges", vocabulary.merges);
    if (without == "suppress") file.set("tokenizer.ggml.suppress_tokens", std::vector<std::int32_t>{7});
    file.set("tokenizer.ggml.eos_token_id", std::uint32_t{without == "range" ? 320U : 2U});
    const auto bytes = file.bytes();
    const auto gguf = GgufFile::from_memory(bytes, "bent.gguf");
    REQUIRE(gguf);
    const auto tokenizer = Tokenizer::from_gguf(*gguf);
    return tokenizer ? Error{ErrorCode::io, ""} : tokenizer.error();
  };
  CHECK(error_of_file("", "gpt2").message.empty());
  CHECK(error_of_file("token_type", "gpt2").message.empty());
  for (const char* key : {"model", "pre", "tokens", "merges"}) {
    CAPTURE(key);
    CHECK(error_of_file(key, "gpt2").code == ErrorCode::not_found);
  }
  CHECK(error_of_file("", "llama") == Error{ErrorCode::unsupported,
                                            "bent.gguf: tokenizer 'llama' is not supported: use a model with "
                                            "byte-level BPE (\"gpt2\")"});
  CHECK(error_of_file("suppress", "gpt2").code == ErrorCode::unsupported);
  CHECK(error_of_file("suppress", "gpt2").message.find("'tokenizer.ggml.suppress_tokens'") != std::string::npos);
  CHECK(error_of_file("range", "gpt2").code == ErrorCode::corrupt);
  CHECK(error_of_file("range", "gpt2").message.find("bent.gguf: ") == 0);
}
