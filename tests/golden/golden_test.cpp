#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "golden_conversation.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/restore.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"

namespace krul::test {
namespace {

std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_directory()) folders.push_back(entry.path());
  return folders;
}

/// All that lie there, the oldest version first: one is added where what is written changes, and none is ever replaced.
std::vector<std::filesystem::path> golden_versions() {
  auto versions = folders_in(KRUL_TEST_GOLDEN);
  std::ranges::sort(versions, {}, [](const std::filesystem::path& version) {
    return std::pair(std::stoi(version.stem().string()), std::stoi(version.extension().string().substr(1)));
  });
  REQUIRE(!versions.empty());
  REQUIRE(versions.front().filename() == "1.1");
  return versions;
}

/// A folder as it was written, in a store that forgets what is done to it.
MemoryStore copy_of(const std::filesystem::path& folder) {
  MemoryStore store;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder))
    if (file.is_regular_file())
      REQUIRE(store.put(std::filesystem::relative(file.path(), folder).string(), file_bytes(file.path())));
  return store;
}

/// Checksums of decoded rows: K, then V, of a layer and block.
using RowHashes = std::map<std::pair<std::size_t, std::size_t>, std::string>;

std::map<std::string, RowHashes> golden_rows(const std::filesystem::path& file) {
  std::map<std::string, RowHashes> all;
  std::ifstream in(file);
  std::string strategy, hash;
  for (std::size_t layer = 0, block = 0; in >> strategy >> layer >> block >> hash;)
    all[strategy][{layer, block}] = hash;
  return all;
}

/// What a restore that loads all that is stored finds in the cache.
RowHashes restored_rows(GoldenConversation& golden, MemoryStore& store, const Manifest& manifest) {
  const Geometry& geometry = golden.model.geometry();
  toy::Backend::Cache cache = golden.model.make_cache(64);
  std::vector<Token> tokens = manifest.tokens;
  tokens.push_back(1);
  std::vector<float> logits(geometry.vocabulary);
  Workers workers(2);
  const auto folder = conversation_folder(manifest.conversation).value();
  const RestoreSizes sizes = restore_sizes(manifest, manifest.rows, 1);
  const RestoreJob<toy::Backend, MemoryStore> job{.model = golden.model,
                                                  .store = store,
                                                  .cache = cache,
                                                  .workers = workers,
                                                  .manifest = manifest,
                                                  .folder = folder,
                                                  .plan = RestorationScheduler<FullLoad>{}.plan(sizes, {}),
                                                  .tokens = tokens,
                                                  .logits = logits,
                                                  .codings = CodingSet(golden.profile)};
  const auto report = restore(job);
  REQUIRE_MESSAGE(report.has_value(), report.error().message);
  CHECK(report->reasons.empty());
  RowHashes hashes;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer)
    for (std::size_t block = 0; block < manifest.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!chunk.is_stored() || chunk.codec == projected_coding) continue;
      const TokenRange range{block * manifest.block, std::min((block + 1) * manifest.block, manifest.rows)};
      const OwnedKvRows rows = read_finite_kv_rows(cache, geometry, layer, range);
      std::vector<std::byte> both(rows.view().keys.begin(), rows.view().keys.end());
      both.insert(both.end(), rows.view().values.begin(), rows.view().values.end());
      hashes[{layer, block}] = hexadecimal(checksum(both));
    }
  return hashes;
}

TEST_CASE("what any version wrote under each strategy is restored to the same rows") {
  for (const auto& at : golden_versions()) {
    GoldenConversation golden(file_bytes(at / "toy.krulprofile"));
    MemoryStore written = copy_of(at / "store");
    auto rows = golden_rows(at / "rows.txt");
    for (const auto& conversation : folders_in(at / "store")) {
      const std::string folder = conversation.filename().string();
      const auto loaded = load_manifest(written, folder, ManifestCopies::first_valid);
      REQUIRE_MESSAGE(loaded.has_value(), folder, ": ", loaded.error().message);
      const Manifest& manifest = loaded->manifest;
      CAPTURE(at.filename().string());
      CAPTURE(manifest.conversation);
      CHECK(manifest.rows == GoldenConversation::rows);
      CHECK(serialize(manifest) == file_bytes(conversation / "manifest-a"));
      CHECK(restored_rows(golden, written, manifest) == rows[manifest.conversation]);
      rows.erase(manifest.conversation);
    }
    CHECK(rows.empty());
  }
}

TEST_CASE("what the newest version wrote is saved as the same bytes") {
  const auto at = golden_versions().back();
  GoldenConversation golden(file_bytes(at / "toy.krulprofile"));
  MemoryStore written = copy_of(at / "store");
  std::size_t saved = 0;
  for (const auto& [strategy, meaning] : strategy::catalogue(golden.profile)) {
    const std::string id = strategy.name(), folder = conversation_folder(id).value();
    CAPTURE(id);  // clang 14 captures no structured bindings
    const auto before = load_manifest(written, folder, ManifestCopies::first_valid);
    if (!before) continue;
    ++saved;
    MemoryStore again;
    const SaveAs as{.id = id,
                    .plan = golden.plan(strategy),
                    .source = &golden.hidden,
                    .statistics = &golden.statistics,
                    .block = GoldenConversation::block};
    REQUIRE(save_as(golden.model, again, golden.cache, golden.tokens, as));
    // A segment's name has its checksum.
    CHECK(load_manifest(again, folder)->manifest.objects == before->manifest.objects);
  }
  CHECK(saved == folders_in(at / "store").size());
}

}  // namespace
}  // namespace krul::test
