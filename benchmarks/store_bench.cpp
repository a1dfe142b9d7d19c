// What keeping rows safe takes: checksums, forcing bytes to the medium, encryption. An object of 1.6 MB is what 1,024
// tokens of SmolLM2-135M take as `krul-codec` stores them. KRUL_BENCH_FOLDER names the disk's folder.
#include <benchmark/benchmark.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/core/temporary_folder.hpp"
#include "krul/store/encrypted_store.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/memory_store.hpp"

namespace {

using namespace krul;

constexpr std::size_t object_bytes = 1'600'000;
const std::string key = std::string(32, 'a') + "/segment-1-00000000";

std::vector<std::byte> some_object() {
  std::vector<std::byte> bytes(object_bytes);
  std::uint64_t state = 1;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>((state = state * 6364136223846793005U + 1) >> 56);
  return bytes;
}

TemporaryFolder scratch() {
  const char* const folder = std::getenv("KRUL_BENCH_FOLDER");
  return or_throw(TemporaryFolder::make(folder ? folder : std::filesystem::temp_directory_path()));
}

void checksum_of_an_object(benchmark::State& state) {
  const auto bytes = some_object();
  for (auto _ : state) benchmark::DoNotOptimize(checksum(bytes));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(object_bytes));
}
BENCHMARK(checksum_of_an_object)->Unit(benchmark::kMillisecond);

/// Argument: Durability.
void put_into_files(benchmark::State& state) {
  const auto bytes = some_object();
  const TemporaryFolder folder = scratch();
  auto store = or_throw(FileStore::open(folder.path() / "store", {.durability = Durability(state.range(0))}));
  for (auto _ : state) or_throw(store.put(key, bytes));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(object_bytes));
}
BENCHMARK(put_into_files)->DenseRange(0, 2)->Unit(benchmark::kMillisecond)->UseRealTime();

/// From the system's memory.
void get_from_files(benchmark::State& state) {
  auto bytes = some_object();
  const TemporaryFolder folder = scratch();
  auto store = or_throw(FileStore::open(folder.path() / "store", {.durability = Durability::none}));
  or_throw(store.put(key, bytes));
  for (auto _ : state) or_throw(store.get(key, 0, bytes));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(object_bytes));
}
BENCHMARK(get_from_files)->Unit(benchmark::kMillisecond)->UseRealTime();

EncryptionKey some_key() {
  return EncryptionKey(std::array<std::byte, EncryptionKey::size>{std::byte{1}});
}

void encrypt(benchmark::State& state) {
  const auto bytes = some_object();
  auto store = EncryptedStore<MemoryStore>::make(MemoryStore(), {some_key()});
  if (!store) return state.SkipWithError("built without libsodium");
  for (auto _ : state) or_throw(store->put(key, bytes));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(object_bytes));
}
BENCHMARK(encrypt)->Unit(benchmark::kMillisecond);

void decrypt(benchmark::State& state) {
  auto bytes = some_object();
  auto store = EncryptedStore<MemoryStore>::make(MemoryStore(), {some_key()});
  if (!store) return state.SkipWithError("built without libsodium");
  or_throw(store->put(key, bytes));
  for (auto _ : state) or_throw(store->get(key, 0, bytes));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(object_bytes));
}
BENCHMARK(decrypt)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
