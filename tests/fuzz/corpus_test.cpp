// Every input that is kept, and every seed, through its target: what a fuzzer has found once is read in every run of
// the tests, by any compiler. A fault ends the program: the last name that was written is its input.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fuzz_target.hpp"

namespace krul::fuzz {
namespace {

Bytes contents_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> read{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(read));
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("what fuzzers have found is read or refused") {
  for (const Target& target : all_targets()) {
    if (target.read == nullptr) {
      MESSAGE("left out: " << target.name << " needs " << target.missing);
      continue;
    }
    const std::filesystem::path corpus = std::filesystem::path(KRUL_FUZZ_CORPUS) / target.name;
    std::vector<std::filesystem::path> files;
    REQUIRE_MESSAGE(std::filesystem::is_directory(corpus), corpus.string());
    for (const auto& entry : std::filesystem::directory_iterator(corpus)) files.push_back(entry.path());
    std::ranges::sort(files);
    CHECK_MESSAGE(!files.empty(), corpus.string());
    for (const auto& file : files) {
      INFO(file.string());
      CHECK_NOTHROW(target.read(contents_of(file)));
    }
    for (const Bytes& seed : target.seeds()) CHECK_NOTHROW(target.read(seed));
  }
}

}  // namespace
}  // namespace krul::fuzz
