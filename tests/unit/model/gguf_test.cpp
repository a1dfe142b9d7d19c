#include "krul/model/gguf.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "support/gguf_writer.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using testing::ByteWriter;
using testing::GgufWriter;

namespace {

using Bytes = std::vector<std::byte>;

/// A folder of its own, gone at the end of the test.
class ScratchFolder {
 public:
  ScratchFolder() {
    auto pattern = (std::filesystem::temp_directory_path() / "krul_gguf_XXXXXX").string();
    expects(::mkdtemp(pattern.data()) != nullptr, "ScratchFolder: no temporary folder");
    path_ = pattern;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Small, but with every kind of value and two tensors.
GgufWriter small_file(std::uint32_t alignment = 32) {
  GgufWriter file(alignment);
  file.set("u8", std::uint8_t{200});
  file.set("i8", std::int8_t{-3});
  file.set("u16", std::uint16_t{60000});
  file.set("i16", std::int16_t{-300});
  file.set("u32", std::uint32_t{4000000000});
  file.set("i32", std::int32_t{-70000});
  file.set("u64", std::numeric_limits<std::uint64_t>::max());
  file.set("i64", std::int64_t{-5});
  file.set("f32", 0.25F);
  file.set("f64", 0.1);
  file.set("yes", true);
  file.set("no", false);
  file.set("text", std::string("h\xc3\xa9"));
  file.set("empty", std::string());
  file.set("texts", std::vector<std::string>{"a", "", "bc"});
  file.set("integers", std::vector<std::int32_t>{1, -2, 3});
  file.set("flags", std::vector<bool>{true, false});
  file.set("huge", std::vector<std::uint64_t>{1, std::numeric_limits<std::uint64_t>::max()});
  file.set("reals", std::vector<float>{1, 2});
  file.set("nothing", std::vector<std::uint16_t>{});
  file.add_tensor("vector", {3}, GgufType::f32, std::span<const float>(std::vector<float>{1, 2, 3}));
  file.add_tensor("matrix", {32, 2}, GgufType::q8_0, std::span<const float>(std::vector<float>(64, 1.0F)));
  return file;
}

Result<GgufFile> parse(std::span<const std::byte> bytes) {
  return GgufFile::from_memory(bytes, "model.gguf");
}

Error error_of(std::span<const std::byte> bytes) {
  const auto file = parse(bytes);
  REQUIRE_FALSE(file.has_value());
  CHECK(file.error().message.starts_with("model.gguf "));
  return file.error();
}

void check_error(std::span<const std::byte> bytes, ErrorCode code, std::string_view sentence) {
  const auto error = error_of(bytes);
  CHECK(name(error.code) == name(code));
  CHECK_MESSAGE(error.message.find(sentence) != std::string::npos, error.message);
}

/// Magic, version and the two counts, to be continued.
ByteWriter preamble(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
  ByteWriter header;
  header.put_raw("GGUF");
  header.put(version);
  header.put(tensors);
  header.put(keys);
  return header;
}

/// A header of one tensor.
ByteWriter one_tensor(const std::vector<std::uint64_t>& shape, std::uint32_t type, std::uint64_t offset) {
  auto header = preamble(1, 0);
  header.put("t");
  header.put(static_cast<std::uint32_t>(shape.size()));
  for (const auto extent : shape) header.put(extent);
  header.put(type);
  header.put(offset);
  header.align(32);
  return header;
}

/// Asks an opened file for everything that it holds.
void read_all(const GgufFile& file) {
  for (const char* key : {"u8", "i8", "u64", "f32", "f64", "yes", "text", "texts", "integers", "flags", "huge", "reals",
                          "nothing", "general.alignment", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}) {
    (void)file.unsigned_value(key);
    (void)file.real_value(key);
    (void)file.bool_value(key);
    (void)file.string_value(key);
    (void)file.string_array(key);
    (void)file.integer_array(key);
  }
  for (const auto& tensor : file.tensors()) {
    const auto* end = file.bytes().data() + file.bytes().size();
    REQUIRE(tensor.data.data() + tensor.data.size() <= end);
    std::vector<float> values(tensor.values());
    REQUIRE(dequantize(tensor.type, tensor.data, values).has_value());
  }
}

}  // namespace

TEST_CASE("metadata of every kind is read") {
  const auto bytes = small_file().bytes();
  const auto file = parse(bytes);
  REQUIRE(file.has_value());

  CHECK(file->unsigned_value("u8").value() == 200);
  CHECK(file->unsigned_value("u16").value() == 60000);
  CHECK(file->unsigned_value("u32").value() == 4000000000);
  CHECK(file->unsigned_value("u64").value() == std::numeric_limits<std::uint64_t>::max());
  CHECK(file->real_value("i8").value() == -3);
  CHECK(file->real_value("i16").value() == -300);
  CHECK(file->real_value("i32").value() == -70000);
  CHECK(file->real_value("i64").value() == -5);
  CHECK(file->real_value("f32").value() == 0.25);
  CHECK(file->real_value("f64").value() == 0.1);
  CHECK(file->bool_value("yes").value());
  CHECK_FALSE(file->bool_value("no").value());
  CHECK(file->string_value("text").value() == "h\xc3\xa9");
  CHECK(file->string_value("empty").value().empty());
  CHECK(file->string_array("texts").value() == std::vector<std::string_view>{"a", "", "bc"});
  CHECK(file->integer_array("integers").value() == std::vector<std::int64_t>{1, -2, 3});
  CHECK(file->integer_array("flags").value() == std::vector<std::int64_t>{1, 0});
  CHECK(file->integer_array("nothing").value().empty());
  CHECK(file->has("u8"));
  CHECK_FALSE(file->has("u9"));
  const auto keys = file->keys();
  CHECK(keys.size() == 20);
  CHECK(keys.front() == "empty");
  CHECK(std::is_sorted(keys.begin(), keys.end()));
}

TEST_CASE("values of another kind, and missing ones, are refused") {
  const auto bytes = small_file().bytes();
  const auto file = parse(bytes);
  REQUIRE(file.has_value());
  const auto code = [](const auto& result) {
    REQUIRE_FALSE(result.has_value());
    return result.error().code;
  };

  CHECK(code(file->unsigned_value("i8")) == ErrorCode::corrupt);
  CHECK(code(file->unsigned_value("f32")) == ErrorCode::corrupt);
  CHECK(code(file->unsigned_value("yes")) == ErrorCode::corrupt);
  CHECK(code(file->unsigned_value("integers")) == ErrorCode::corrupt);
  CHECK(code(file->real_value("text")) == ErrorCode::corrupt);
  CHECK(code(file->real_value("yes")) == ErrorCode::corrupt);
  CHECK(code(file->bool_value("u8")) == ErrorCode::corrupt);
  CHECK(code(file->string_value("u8")) == ErrorCode::corrupt);
  CHECK(code(file->string_value("texts")) == ErrorCode::corrupt);
  CHECK(code(file->string_array("text")) == ErrorCode::corrupt);
  CHECK(code(file->string_array("integers")) == ErrorCode::corrupt);
  CHECK(code(file->integer_array("texts")) == ErrorCode::corrupt);
  CHECK(code(file->integer_array("reals")) == ErrorCode::corrupt);
  CHECK(code(file->integer_array("huge")) == ErrorCode::corrupt);
  CHECK(
      file->unsigned_value("text").error().message ==
      "model.gguf holds a string for key 'text' where an integer >= 0 is needed; use another conversion of the model");
  for (const auto result :
       {code(file->unsigned_value("u9")), code(file->real_value("u9")), code(file->bool_value("u9")),
        code(file->string_value("u9")), code(file->string_array("u9")), code(file->integer_array("u9"))})
    CHECK(result == ErrorCode::not_found);
}

TEST_CASE("a boolean that is neither 0 nor 1 is refused") {
  auto header = preamble(0, 1);
  header.put("b");
  header.put(std::uint32_t{7});
  header.put(std::uint8_t{2});
  const auto file = parse(header.bytes());
  REQUIRE(file.has_value());

  REQUIRE_FALSE(file->bool_value("b").has_value());
  CHECK(file->bool_value("b").error().code == ErrorCode::corrupt);
}

TEST_CASE("tensors are found, with their shapes and data") {
  for (const std::uint32_t alignment : {8U, 32U, 64U, 4096U}) {
    const auto bytes = small_file(alignment).bytes();
    const auto file = parse(bytes);
    REQUIRE(file.has_value());

    REQUIRE(file->tensors().size() == 2);
    const auto* matrix = file->find("matrix");
    REQUIRE(matrix != nullptr);
    CHECK(matrix == &file->tensors()[1]);
    CHECK(matrix->type == GgufType::q8_0);
    CHECK(matrix->shape == std::vector<std::uint64_t>{32, 2});
    CHECK(matrix->values() == 64);
    CHECK(matrix->data.size() == 68);
    CHECK((matrix->data.data() - bytes.data()) % alignment == 0);
    float vector[3];
    REQUIRE(dequantize(GgufType::f32, file->find("vector")->data, vector).has_value());
    CHECK(vector[2] == 3);
    CHECK(file->find("tensor") == nullptr);
  }
}

TEST_CASE("a file on disk opens, moves, and keeps its views") {
  const ScratchFolder folder;
  const auto path = folder / "tiny.gguf";
  const auto bytes = testing::tiny_model();
  testing::write_file(path, bytes);

  auto opened = GgufFile::open(path);
  REQUIRE(opened.has_value());
  const auto name = opened->string_value("general.name").value();
  const GgufFile file = std::move(*opened);

  CHECK(name == "Tiny llama");
  CHECK(file.path() == path.string());
  CHECK(std::equal(file.bytes().begin(), file.bytes().end(), bytes.begin(), bytes.end()));
  CHECK(file.find("blk.1.ffn_down.weight")->shape == std::vector<std::uint64_t>{96, 64});
}

TEST_CASE("tiny models have what real files have, and the same options give the same bytes") {
  for (const std::string architecture : {"llama", "qwen2"})
    for (const auto type : {GgufType::f32, GgufType::f16, GgufType::bf16, GgufType::q8_0, GgufType::q4_1})
      for (const bool tied : {true, false}) {
        const testing::TinyModel options{.architecture = architecture, .tied = tied, .weights = type};
        const auto bytes = testing::tiny_model(options);
        CHECK(bytes == testing::tiny_model(options));
        const auto file = parse(bytes);
        REQUIRE(file.has_value());
        read_all(*file);
        CHECK(file->unsigned_value(architecture + ".attention.head_count_kv").value() == 2);
        CHECK(file->string_array("tokenizer.ggml.tokens")->size() == 320);
        CHECK(file->integer_array("tokenizer.ggml.token_type")->size() == 320);
        CHECK((file->find("output.weight") == nullptr) == tied);
        CHECK((file->find("blk.0.attn_q.bias") != nullptr) == (architecture == "qwen2"));
        CHECK(file->find("blk.1.attn_v.weight")->type == type);
      }
  CHECK(testing::tiny_model({.seed = 1}) != testing::tiny_model({.seed = 2}));
  CHECK_THROWS_AS((void)testing::tiny_model({.architecture = "gpt"}), PreconditionError);
  CHECK_THROWS_AS((void)testing::tiny_model({.kv_heads = 3}), PreconditionError);
  CHECK_THROWS_AS((void)testing::tiny_model({.vocabulary = 299}), PreconditionError);
}

TEST_CASE("the bytes of a tiny vocabulary are all there, once") {
  for (const bool special_first : {true, false}) {
    const auto vocabulary = testing::tiny_vocabulary(300, special_first);
    for (unsigned byte = 0; byte < 256; ++byte)
      CHECK(std::count(vocabulary.tokens.begin(), vocabulary.tokens.end(), testing::byte_letter(byte)) == 1);
    CHECK(vocabulary.tokens[vocabulary.turn_begin] == "<|im_start|>");
    CHECK(vocabulary.tokens[vocabulary.turn_end] == "<|im_end|>");
    for (const auto& merge : vocabulary.merges) {
      const auto gap = merge.find(' ');
      for (const auto& part :
           {merge.substr(0, gap), merge.substr(gap + 1), merge.substr(0, gap) + merge.substr(gap + 1)})
        CHECK(std::count(vocabulary.tokens.begin(), vocabulary.tokens.end(), part) == 1);
    }
  }
  CHECK(testing::byte_letter('A') == "A");
  CHECK(testing::byte_letter(' ') == "\xc4\xa0");
  CHECK(testing::byte_letter('\n') == "\xc4\x8a");
  CHECK(testing::byte_letter(0xff) == "\xc3\xbf");
}

TEST_CASE("paths that hold no file") {
  const ScratchFolder folder;

  const auto missing = GgufFile::open(folder / "missing.gguf");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == ErrorCode::not_found);
  CHECK(missing.error().message ==
        (folder / "missing.gguf").string() + " does not exist; give the path of a model in GGUF format");

  const auto directory = GgufFile::open(folder / "");
  REQUIRE_FALSE(directory.has_value());
  CHECK(directory.error().code == ErrorCode::invalid_argument);

  testing::write_file(folder / "empty.gguf", {});
  const auto empty = GgufFile::open(folder / "empty.gguf");
  REQUIRE_FALSE(empty.has_value());
  CHECK(empty.error().code == ErrorCode::truncated);

  const auto too_long = GgufFile::open(folder / std::string(5000, 'x'));
  REQUIRE_FALSE(too_long.has_value());
  CHECK(too_long.error().code == ErrorCode::io);
}

TEST_CASE("what is no GGUF file, or another version of it, is named") {
  ByteWriter zip;
  zip.put_raw("PK\x03\x04 something else");
  check_error(zip.bytes(), ErrorCode::corrupt, "is not a GGUF file");
  check_error(preamble(0, 0, 1).bytes(), ErrorCode::unsupported_version, "is GGUF version 1");
  check_error(preamble(0, 0, 4).bytes(), ErrorCode::unsupported_version, "is GGUF version 4");
  check_error(preamble(0, 0, 0).bytes(), ErrorCode::unsupported_version, "is GGUF version 0");
  check_error(preamble(0, 0, 0x03000000).bytes(), ErrorCode::unsupported_version, "big-endian");
  CHECK(parse(preamble(0, 0, 2).bytes()).has_value());
}

TEST_CASE("types of tensors that krul does not read are named") {
  check_error(
      one_tensor({256}, 10, 0).bytes(), ErrorCode::unsupported,
      "holds tensor 't' as Q2_K, and krul reads F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K");
  check_error(one_tensor({256}, 23, 0).bytes(), ErrorCode::unsupported, "as IQ4_XS");
  check_error(one_tensor({256}, 39, 0).bytes(), ErrorCode::unsupported, "as MXFP4");
  check_error(one_tensor({256}, 777, 0).bytes(), ErrorCode::unsupported, "as unknown type 777");
}

TEST_CASE("a file that is cut anywhere is refused") {
  const auto whole = testing::tiny_model({.layers = 1});
  const auto file = parse(whole);
  REQUIRE(file.has_value());
  const auto header = static_cast<std::size_t>(file->tensors()[0].data.data() - whole.data());
  const auto& last = file->tensors().back();
  CHECK(last.data.data() + last.data.size() == whole.data() + whole.size());

  std::size_t wrong = 0;
  std::size_t tried = 0;
  for (std::size_t size = 0; size < whole.size(); size += size <= header + 64 ? 1 : 997, ++tried) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));  // its own end, for sanitizers
    const auto result = parse(cut);
    wrong += result.has_value() || result.error().code != ErrorCode::truncated;
  }
  CHECK(tried > header);
  CHECK(wrong == 0);

  const Bytes cut(whole.begin(), whole.end() - 1);
  check_error(cut, ErrorCode::truncated,
              "is cut short: tensor 'output_norm.weight' ends at byte " + std::to_string(whole.size()) +
                  " and the file has " + std::to_string(whole.size() - 1) + "; fetch the file again");
  check_error(std::span(whole).first(20), ErrorCode::truncated,
              "is cut short: its header needs at least 24 bytes and the file has 20; fetch the file again");
}

TEST_CASE("any byte of a header may be wrong") {
  const auto whole = small_file(64).bytes();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const unsigned flip : {0x01U, 0x02U, 0x10U, 0x40U, 0x80U, 0xffU}) {
      auto damaged = whole;
      damaged[at] ^= static_cast<std::byte>(flip);
      if (const auto file = parse(damaged))
        read_all(*file);
      else
        ++refused;
    }
  CHECK(refused > 0);
}

TEST_CASE("random bytes behind a valid beginning are survived") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 2000; ++round) {
    auto header = preamble(random() % 3, random() % 5);
    const auto size = random() % 200;
    for (std::size_t i = 0; i < size; ++i) {
      header.put(static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() % 13));
      if (random() % 2 == 0) header.put_raw(std::string(7, '\0'));  // makes plausible small lengths
    }
    if (const auto file = parse(header.bytes())) read_all(*file);
  }
}

TEST_CASE("absurd counts and lengths are refused before anything is allocated") {
  constexpr std::uint64_t absurd = std::uint64_t{1} << 60;
  constexpr auto largest = std::numeric_limits<std::uint64_t>::max();
  check_error(preamble(absurd, 0).bytes(), ErrorCode::too_large, "claims 1152921504606846976 tensors, and 65536 is");
  check_error(preamble(0, absurd).bytes(), ErrorCode::too_large, "claims 1152921504606846976 keys");
  check_error(preamble(0, largest).bytes(), ErrorCode::too_large, "keys");
  check_error(preamble(1000, 0).bytes(), ErrorCode::truncated, "cut short");

  const auto key_of = [](std::uint64_t length) {
    auto header = preamble(0, 1);
    header.put(length);
    return header;
  };
  check_error(key_of(absurd).bytes(), ErrorCode::too_large, "bytes in a key");
  check_error(key_of(largest).bytes(), ErrorCode::too_large, "bytes in a key");
  check_error(key_of(1000).bytes(), ErrorCode::truncated, "cut short");

  const auto string_of = [](std::uint64_t length) {
    auto header = preamble(0, 1);
    header.put("k");
    header.put(std::uint32_t{8});
    header.put(length);
    return header;
  };
  check_error(string_of(absurd).bytes(), ErrorCode::too_large, "bytes in a string");
  check_error(string_of(largest).bytes(), ErrorCode::too_large, "bytes in a string");
  check_error(string_of(1 << 20).bytes(), ErrorCode::truncated, "cut short");

  const auto array_of = [](std::uint32_t kind, std::uint64_t count) {
    auto header = preamble(0, 1);
    header.put("k");
    header.put(std::uint32_t{9});
    header.put(kind);
    header.put(count);
    return header;
  };
  for (const std::uint32_t kind : {0U, 5U, 8U, 12U}) {
    check_error(array_of(kind, absurd).bytes(), ErrorCode::too_large, "values in an array");
    check_error(array_of(kind, largest).bytes(), ErrorCode::too_large, "values in an array");
    check_error(array_of(kind, 1 << 24).bytes(), ErrorCode::truncated, "cut short");
  }
  check_error(array_of(9, 1).bytes(), ErrorCode::corrupt, "unknown type of value for key 'k'");
  check_error(array_of(13, 1).bytes(), ErrorCode::corrupt, "unknown type of value for key 'k'");

  const auto tensor_name_of = [](std::uint64_t length) {
    auto header = preamble(1, 0);
    header.put(length);
    return header;
  };
  check_error(tensor_name_of(absurd).bytes(), ErrorCode::too_large, "bytes in a tensor's name");

  check_error(one_tensor({1, 1, 1, 1, 1}, 0, 0).bytes(), ErrorCode::too_large, "5 dimensions, and 4 is the most");
  check_error(one_tensor({absurd, 16}, 0, 0).bytes(), ErrorCode::too_large, "more than 2^64 values or bytes");
  check_error(one_tensor({largest, largest, largest, largest}, 0, 0).bytes(), ErrorCode::too_large, "more than 2^64");
  check_error(one_tensor({std::uint64_t{1} << 62, 1}, 0, 0).bytes(), ErrorCode::too_large, "more than 2^64");
  check_error(one_tensor({absurd}, 0, 0).bytes(), ErrorCode::truncated, "cut short: tensor 't' ends at byte");
  check_error(one_tensor({1}, 0, largest - 31).bytes(), ErrorCode::too_large, "beyond 2^64 bytes");
  check_error(one_tensor({1}, 0, absurd).bytes(), ErrorCode::truncated, "cut short");
}

TEST_CASE("damaged headers are told apart") {
  check_error(one_tensor({}, 0, 0).bytes(), ErrorCode::corrupt, "without a name or without dimensions");
  check_error(one_tensor({0}, 0, 0).bytes(), ErrorCode::corrupt, "leaves it empty");
  check_error(one_tensor({32, 0}, 8, 0).bytes(), ErrorCode::corrupt, "leaves it empty");
  check_error(one_tensor({33}, 8, 0).bytes(), ErrorCode::corrupt, "rows of 33 values");
  check_error(one_tensor({1}, 0, 4).bytes(), ErrorCode::corrupt, "not aligned");

  GgufWriter twice_key;
  twice_key.set("k", std::uint32_t{1});
  twice_key.set("k", std::uint32_t{2});
  check_error(twice_key.bytes(), ErrorCode::corrupt, "has key 'k' twice");

  GgufWriter twice_tensor;
  const std::vector<float> values(4);
  twice_tensor.add_tensor("t\x1b[31m", {4}, GgufType::f32, std::span(values));
  twice_tensor.add_tensor("t\x1b[31m", {4}, GgufType::f32, std::span(values));
  check_error(twice_tensor.bytes(), ErrorCode::corrupt, "has tensor 't?[31m' twice");

  GgufWriter no_key;
  no_key.set("", std::uint32_t{1});
  check_error(no_key.bytes(), ErrorCode::corrupt, "has no name");

  for (const std::uint32_t alignment : {0U, 3U, 48U, 1U << 17}) {
    GgufWriter file;
    file.set("general.alignment", alignment);
    check_error(file.bytes(), ErrorCode::corrupt, "aligns its tensors to " + std::to_string(alignment) + " bytes");
  }
  GgufWriter word;
  word.set("general.alignment", std::string("wide"));
  check_error(word.bytes(), ErrorCode::corrupt, "holds a string for key 'general.alignment'");
}
