#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "krul/model/decoder_file.hpp"
#include "krul/model/gguf.hpp"
#include "support/gguf_writer.hpp"
#include "support/temporary_directory.hpp"
#include "support/tiny_model.hpp"

using namespace krul;
using krul::testing::GgufWriter;

namespace {

/// A tiny model in three files of a folder.
struct SplitModel {
  krul::test::TemporaryDirectory folder;
  std::vector<std::vector<std::byte>> files = krul::testing::tiny_model_writer({.layers = 3}).split(3);

  SplitModel() { write(); }
  [[nodiscard]] std::filesystem::path path(int file) const {
    return folder.path() / ("tiny-0000" + std::to_string(file) + "-of-00003.gguf");
  }
  void write() const {
    for (int i = 0; i < 3; ++i) krul::testing::write_file(path(i + 1), files[static_cast<std::size_t>(i)]);
  }
  void check_refused(const std::filesystem::path& file, ErrorCode code, const std::string& what) const {
    const auto opened = GgufFile::open(file);
    REQUIRE(!opened);
    CAPTURE(opened.error().message);
    CHECK(name(opened.error().code) == name(code));
    CHECK(opened.error().message.find(what) != std::string::npos);
  }
};

}  // namespace

TEST_CASE("a model in several files is the model of one file") {
  const SplitModel split;
  const auto bytes = krul::testing::tiny_model({.layers = 3});
  const auto whole = GgufFile::from_memory(bytes, "tiny.gguf").value();
  auto opened = GgufFile::open(split.path(1));
  REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().message));
  const GgufFile joined = std::move(*opened);
  CHECK(joined.more_files().size() == 2);
  REQUIRE(joined.tensors().size() == whole.tensors().size());
  for (const auto& tensor : whole.tensors()) {
    const auto* same = joined.find(tensor.name);
    REQUIRE(same != nullptr);
    CHECK(same->shape == tensor.shape);
    CHECK(std::equal(same->data.begin(), same->data.end(), tensor.data.begin(), tensor.data.end()));
  }
  CHECK(DecoderFile::read(joined, ElementType::f16));
  CHECK(joined.string_value("general.name").value() == "Tiny llama");

  // Bytes of any file change the weights' name.
  const auto hash = weights_hash(joined);
  CHECK(hash.size() == 32);
  SplitModel other;
  other.files[2].back() ^= std::byte{1};
  other.write();
  CHECK(weights_hash(GgufFile::open(other.path(1)).value()) != hash);
}

TEST_CASE("given another part, it says which is wanted") {
  const SplitModel split;
  split.check_refused(split.path(2), ErrorCode::invalid_argument,
                      "is part 2 of 3 of a model; give the first: " + split.path(1).string());
  split.check_refused(split.path(3), ErrorCode::invalid_argument, split.path(1).string());
  std::filesystem::rename(split.path(2), split.folder.path() / "two.gguf");
  split.check_refused(split.folder.path() / "two.gguf", ErrorCode::invalid_argument, "part 2 of 3");
}

TEST_CASE("parts that are missing, misplaced or of another model are told") {
  SplitModel split;
  std::filesystem::remove(split.path(3));
  split.check_refused(split.path(1), ErrorCode::not_found, "part 3 of 3");
  split.check_refused(split.path(1), ErrorCode::not_found, split.path(3).string() + " does not exist");

  krul::testing::write_file(split.path(3), split.files[1]);
  split.check_refused(split.path(1), ErrorCode::corrupt, "is not part 3 of 3");

  split.write();
  std::filesystem::copy(split.path(1), split.folder.path() / "one.gguf");
  split.check_refused(split.folder.path() / "one.gguf", ErrorCode::invalid_argument, "NAME-00001-of-00003.gguf");

  const auto other = krul::testing::tiny_model_writer({.layers = 4}).split(3);
  split.files[0] = other[0];  // more tensors than there are
  split.write();
  split.check_refused(split.path(1), ErrorCode::corrupt, "");

  split.files = krul::testing::tiny_model_writer({.layers = 3}).split(3);
  split.files[2].resize(split.files[2].size() / 2);
  split.write();
  split.check_refused(split.path(1), ErrorCode::truncated, "part 3 of 3");
}

TEST_CASE("counts of parts that cannot be are refused") {
  const SplitModel split;
  const auto with_count = [&](const auto& count) {
    GgufWriter file;
    file.set("split.no", std::uint16_t{0});
    file.set("split.count", count);
    krul::testing::write_file(split.path(1), file.bytes());
  };
  with_count(std::uint32_t{4'000'000'000});
  split.check_refused(split.path(1), ErrorCode::too_large, "damaged");
  with_count(std::string("three"));
  split.check_refused(split.path(1), ErrorCode::corrupt, "split.count");
  with_count(std::uint16_t{1});
  CHECK(GgufFile::open(split.path(1)));

  const auto in_memory = GgufFile::from_memory(split.files[0], "part.gguf");
  REQUIRE(!in_memory);
  CHECK(in_memory.error().code == ErrorCode::unsupported);
}
