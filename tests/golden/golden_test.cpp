#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golden_conversation.hpp"
#include "golden_scenes.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/restore.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue.hpp"
#include "manifest_lines.hpp"

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

std::shared_ptr<const Profile> profile_in(const std::filesystem::path& version) {
  auto data = parse_profile(file_bytes(version / "toy.krulprofile")).value();
  return Profile::create(std::move(data), toy::Backend().geometry()).value();
}

/// Checksums of decoded rows: K, then V, of a layer and block.
using RowHashes = std::map<std::pair<std::size_t, std::size_t>, std::string>;

std::map<std::string, RowHashes> golden_rows(const std::filesystem::path& file) {
  std::map<std::string, RowHashes> all;
  std::ifstream in(file);
  std::string conversation, hash;
  for (std::size_t layer = 0, block = 0; in >> conversation >> layer >> block >> hash;)
    all[conversation][{layer, block}] = hash;
  return all;
}

/// What a restore that loads all that is stored finds in the cache. What nobody can load is recomputed.
RowHashes restored_rows(const std::shared_ptr<const Profile>& profile, MemoryStore& store, const Manifest& manifest) {
  toy::Backend model(saved_cache_type(manifest).value());
  const Geometry& geometry = model.geometry();
  toy::Backend::Cache cache = model.make_cache(manifest.rows + 1);
  std::vector<Token> tokens = manifest.tokens;
  tokens.resize(manifest.rows);
  tokens.push_back(1);
  std::vector<float> logits(geometry.vocabulary);
  Workers workers(2);
  const auto folder = conversation_folder(manifest.conversation).value();
  const auto is_there = [&](const ChunkRecord& chunk) {
    return chunk.is_stored() && store.size(object_key(folder, manifest.objects[chunk.object])).has_value();
  };
  const bool is_of_model = profile->data().geometry == describe(geometry);  // one of another cache has no profile
  const RestoreSizes sizes = restore_sizes(manifest, manifest.rows, 1);
  const RestoreJob<toy::Backend, MemoryStore> job{
      .model = model,
      .store = store,
      .cache = cache,
      .workers = workers,
      .manifest = manifest,
      .folder = folder,
      .plan = RestorationScheduler<FullLoad>{}.plan(sizes, {}),
      .tokens = tokens,
      .logits = logits,
      .codings = CodingSet(is_of_model ? profile : nullptr, GoldenScenes::coders())};
  const auto report = restore(job);
  REQUIRE_MESSAGE(report.has_value(), report.error().message);
  RowHashes hashes;
  bool is_whole = true;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer)
    for (std::size_t block = 0; block < manifest.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      is_whole = is_whole && (is_there(chunk) || !chunk.is_stored());
      if (!is_there(chunk) || chunk.codec == projected_coding) continue;
      const TokenRange range{block * manifest.block, std::min((block + 1) * manifest.block, manifest.rows)};
      const OwnedKvRows rows = read_finite_kv_rows(cache, geometry, layer, range);
      std::vector<std::byte> both(rows.view().keys.begin(), rows.view().keys.end());
      both.insert(both.end(), rows.view().values.begin(), rows.view().values.end());
      hashes[{layer, block}] = hexadecimal(checksum(both));
    }
  CHECK(report->reasons.empty() == is_whole);
  return hashes;
}

/// The manifests in force, by the ids of their conversations. Of one that was erased only what it lends is left.
std::vector<Manifest> conversations_in(MemoryStore& store) {
  std::vector<Manifest> all;
  const auto saved = saved_conversations(store).value();
  for (const SavedConversation& each : saved) {
    REQUIRE_MESSAGE(each.saved.has_value(), each.folder, ": ", each.saved.error().message);
    all.push_back(each.saved->manifest);
  }
  std::ranges::sort(all, {}, &Manifest::conversation);
  return all;
}

std::vector<std::byte> object_bytes(MemoryStore& store, const std::string& key) {
  return load_object(store, key, 1 << 20).value();
}

/// The manifest in force of each conversation, as it is written beside the store.
std::string manifest_lines(MemoryStore& store) {
  std::string text;
  for (const Manifest& manifest : conversations_in(store)) {
    const auto bytes = object_bytes(store, conversation_folder(manifest.conversation).value() + "/manifest-a");
    text += ManifestLines(manifest, std::to_integer<unsigned>(bytes[10])).text();
  }
  return text;
}

/// What is written of a save for people is as of another one.
std::vector<std::byte> as_saved_by(const Manifest& other, Manifest manifest) {
  manifest.writer = other.writer;
  manifest.saved_unix_s = other.saved_unix_s;
  return serialize(manifest);
}

TEST_CASE("what any version wrote is read, restored to the same rows and written as the same bytes") {
  for (const auto& at : golden_versions()) {
    const auto profile = profile_in(at);
    MemoryStore written = copy_of(at / "store");
    auto rows = golden_rows(at / "rows.txt");
    for (const Manifest& manifest : conversations_in(written)) {
      const std::string& id = manifest.conversation;
      CAPTURE(at.filename().string());
      CAPTURE(id);
      CHECK(serialize(manifest) == object_bytes(written, conversation_folder(id).value() + "/manifest-a"));
      CHECK(restored_rows(profile, written, manifest) == rows[id]);
      rows.erase(id);
    }
    CHECK(rows.empty());
    if (at.filename() == "1.1") continue;  // which has no such file
    const std::string lines = manifest_lines(written);
    CHECK(std::ranges::equal(std::as_bytes(std::span(lines)), file_bytes(at / "manifests.txt")));
  }
}

TEST_CASE("what each strategy saves has the bytes that 1.1 wrote") {
  const auto at = std::filesystem::path(KRUL_TEST_GOLDEN) / "1.1";
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

TEST_CASE("the scenes of 1.4 are saved as the bytes that 1.4 wrote") {
  const auto at = std::filesystem::path(KRUL_TEST_GOLDEN) / "1.4";
  MemoryStore written = copy_of(at / "store"), again;
  GoldenScenes(file_bytes(at / "toy.krulprofile"), again).write();
  const auto folders = written.list("").value();
  CHECK(again.list("").value() == folders);
  for (const std::string& folder : folders) {
    const auto names = written.list(folder).value();
    CHECK(again.list(folder).value() == names);
    for (const std::string& name : names) {
      const std::string key = folder + "/" + name;
      CAPTURE(key);
      const auto before = object_bytes(written, key), after = object_bytes(again, key);
      if (name.starts_with("manifest-")) {
        CHECK(as_saved_by(parse_manifest(before).value(), parse_manifest(after).value()) == before);
      } else {
        CHECK(after == before);
      }
    }
  }
}

// How the folder was made, once: krul_test_golden -tc='writes the golden*' --no-skip
TEST_CASE("writes the golden folder of 1.4; run by hand when a version is to have one of its own" * doctest::skip()) {
  const auto at = std::filesystem::path(KRUL_TEST_GOLDEN) / "1.4";
  const auto write = [](const std::filesystem::path& file, std::span<const std::byte> bytes) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  const auto write_text = [&](const std::filesystem::path& file, const std::string& text) {
    write(file, std::as_bytes(std::span(text)));
  };
  REQUIRE_MESSAGE(!std::filesystem::exists(at), "no golden folder is ever replaced");
  ProfileData profile = parse_profile(file_bytes(at.parent_path() / "1.1" / "toy.krulprofile")).value();
  profile.features = 0;  // which 1.1 has
  for (GroupTransform& group : profile.groups)
    for (TensorTransform* tensor : {&group.keys, &group.values}) {
      tensor->prediction.clear();
      tensor->prediction_scales.clear();
    }
  const auto profile_bytes = serialize(profile);
  write(at / "toy.krulprofile", profile_bytes);
  MemoryStore store;
  GoldenScenes(profile_bytes, store).write();
  const auto folders = store.list("").value();
  for (const std::string& folder : folders) {
    const auto names = store.list(folder).value();
    for (const std::string& name : names) write(at / "store" / folder / name, object_bytes(store, folder + "/" + name));
  }
  std::string rows;
  for (const Manifest& manifest : conversations_in(store))
    for (const auto& [place, hash] : restored_rows(profile_in(at), store, manifest))
      rows += manifest.conversation + " " + std::to_string(place.first) + " " + std::to_string(place.second) + " " +
              hash + "\n";
  write_text(at / "rows.txt", rows);
  write_text(at / "manifests.txt", manifest_lines(store));
}

}  // namespace
}  // namespace krul::test
