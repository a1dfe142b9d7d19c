// What libFuzzer calls. It passes on options that begin with two dashes:
//
//   krul_fuzz --target=gguf [--seeds=FOLDER] [FOLDER OR FILE OF INPUTS...] [-max_total_time=60 ...]
//
// With --seeds it writes the target's seeds there and ends.
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "fuzz_target.hpp"

namespace {

std::optional<krul::fuzz::Target> chosen_target;

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::size_t number = 0;
  for (const auto& seed : chosen_target->seeds())
    std::ofstream(folder / ("seed-" + std::to_string(number++)), std::ios::binary)
        .write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
}

}  // namespace

/// An input frees little: the sanitizer need not keep 256 MB of it, all of which is fresh memory for what comes next.
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16";
}

extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  const std::string_view target_option = "--target=", seeds_option = "--seeds=";
  std::string_view name, seeds;
  for (int i = 1; i < *count; ++i) {
    const std::string_view argument = (*arguments)[i];
    if (argument.starts_with(target_option)) name = argument.substr(target_option.size());
    if (argument.starts_with(seeds_option)) seeds = argument.substr(seeds_option.size());
  }
  for (const auto& target : krul::fuzz::built_targets())
    if (target.name == name) chosen_target = target;
  if (!chosen_target) {
    std::fprintf(stderr, "--target= is one of:\n");
    for (const auto& target : krul::fuzz::built_targets())
      std::fprintf(stderr, "%.*s\n", static_cast<int>(target.name.size()), target.name.data());
    std::exit(2);
  }
  if (!seeds.empty()) {
    write_seeds(seeds);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  chosen_target->read(std::as_bytes(std::span(data, size)));
  return 0;
}
