#include "krul/conversation/save.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

#include <doctest/doctest.h>

#include <filesystem>

#include "krul/store/faulty_store.hpp"
#include "krul/store/file_store.hpp"
#include "support/coded_by.hpp"
#include "support/temporary_directory.hpp"
#include "support/toy_profile.hpp"
#include "support/toy_talk.hpp"

namespace krul {
namespace {

using test::flip_byte;
using test::ToyTalk;
using Faulty = FaultyStore<MemoryStore>;

/// Where the chunk of a layer and block lies.
std::string key_of(const std::string& folder, const Manifest& manifest, std::size_t layer, std::size_t block) {
  return folder + "/" + manifest.objects[manifest.chunk(layer, block).object];
}

TEST_CASE("an object that is shorter than it should be, or gone, is replaced by the next turn") {
  const test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  ToyTalk talk(store);
  REQUIRE(talk.turn(70));
  const auto file = directory.path() / talk.folder / talk.manifest().objects.front();
  SUBCASE("empty") {
    std::filesystem::resize_file(file, 0);
  }
  SUBCASE("cut off") {
    std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  }
  SUBCASE("gone") {
    std::filesystem::remove(file);
  }
  SUBCASE("a directory in its place") {
    std::filesystem::remove(file);
    std::filesystem::create_directory(file);
    REQUIRE(talk.turn(80));
    CHECK(talk.is_right(80));
    std::filesystem::remove(file);  // not krul's, and so left there
  }
  REQUIRE(talk.turn(90));
  CHECK(talk.is_right(90));
  CHECK(talk.is_clean());
  REQUIRE(talk.turn(100));
  CHECK(talk.last.repaired_rows == 0);
  CHECK(talk.last.reasons.empty());
  CHECK(talk.is_right(100));
}

TEST_CASE("a save that finds an object damaged succeeds, and replaces it from the live cache at once") {
  const test::TemporaryDirectory directory;
  FileStore store = FileStore::open(directory.path(), {.durability = Durability::none}).value();
  ToyTalk toy(store);
  auto talk = toy.open();
  REQUIRE(talk.advance(std::span(toy.tokens).first(70), toy.logits));
  REQUIRE(talk.save());
  std::filesystem::resize_file(directory.path() / toy.folder / toy.manifest().objects.front(), 0);
  REQUIRE(talk.advance(std::span(toy.tokens).first(80), toy.logits));
  SUBCASE("in the foreground") {
    const auto saved = talk.save();
    REQUIRE(saved);
    CHECK(saved->damaged_blocks.empty());
  }
  SUBCASE("in the background, by the save after it") {
    REQUIRE(talk.save_in_background());
    REQUIRE(talk.finish_save());
    CHECK(talk.finish_save()->damaged_blocks == std::vector<std::size_t>{0, 1, 2, 3});
    REQUIRE(talk.save_in_background());
    REQUIRE(talk.finish_save());
  }
  CHECK(toy.is_clean());
  talk.drop();
  const auto report = talk.advance(std::span(toy.tokens).first(90), toy.logits);
  CHECK(report->repaired_rows == 0);
  CHECK(toy.is_right(90));
}

TEST_CASE("a compaction that cannot read or write leaves the objects where they are, and the save succeeds") {
  Faulty store{MemoryStore()};
  ToyTalk toy(store);
  auto talk = toy.open();
  REQUIRE(talk.advance(std::span(toy.tokens).first(30), toy.logits));
  REQUIRE(talk.save());  // a block, and a tail that takes nearly half of the object
  REQUIRE(talk.advance(std::span(toy.tokens).first(40), toy.logits));
  Fault fault{.operation = Fault::Operation::get, .keys = "*/segment-1-*"};
  std::size_t objects = 2, damaged = 0;
  SUBCASE("a sector that cannot be read: what lay there is written again") {
    fault.code = ErrorCode::medium;
    fault.count = 1;
    objects = 2;
  }
  SUBCASE("a read that is refused once says nothing about what is stored") {
    fault.count = 1;
  }
  SUBCASE("a store that cannot be reached for now says nothing about what is stored") {
    fault.code = ErrorCode::deadline;
  }
  SUBCASE("no room for the copy") {
    fault = {.operation = Fault::Operation::put, .keys = "*/segment-*", .first = 1, .code = ErrorCode::no_space};
  }
  SUBCASE("what was read is not what was written") {
    fault.kind = Fault::Kind::corrupt;
    fault.count = 1;
  }
  store.set_faults({fault});
  const auto saved = talk.save();
  REQUIRE(saved);
  CHECK(store.hits() >= 1);
  CHECK(saved->damaged_blocks.size() == damaged);
  CHECK(toy.manifest().objects.size() == objects);
  store.set_faults({});
  CHECK(toy.is_clean());
  REQUIRE(talk.advance(std::span(toy.tokens).first(50), toy.logits));
  REQUIRE(talk.save());
  CHECK(toy.is_clean());
  talk.drop();
  CHECK(talk.advance(std::span(toy.tokens).first(60), toy.logits)->repaired_rows == 0);
  CHECK(toy.is_right(60));
}

TEST_CASE("damage is healed once: what was recomputed for it is saved again, and nothing else") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  const Manifest before = talk.manifest();
  std::size_t repaired = 16;
  std::vector<std::size_t> blocks = {2};
  SUBCASE("one chunk") {
    flip_byte(store, key_of(talk.folder, before, 1, 2), before.chunk(1, 2).offset);
  }
  SUBCASE("two chunks of one block") {
    for (const std::size_t layer : {0, 3})
      flip_byte(store, key_of(talk.folder, before, layer, 2), before.chunk(layer, 2).offset + 5);
    repaired = 32;
  }
  SUBCASE("two blocks, the open tail among them") {
    flip_byte(store, key_of(talk.folder, before, 0, 0), before.chunk(0, 0).offset);
    flip_byte(store, key_of(talk.folder, before, 2, 6), before.chunk(2, 6).offset);
    repaired = 20;
    blocks = {0, 6};
  }
  CHECK_FALSE(talk.is_clean());
  const auto saved = talk.turn(110);
  REQUIRE(saved);
  CHECK(talk.is_right(110));
  CHECK(talk.last.repaired_rows == repaired);
  CHECK(talk.last.damaged_blocks == blocks);
  CHECK(saved->new_rows == 14 + 16 * (blocks.front() == blocks.back() ? 1 : blocks.size() - 1));
  CHECK(talk.is_clean());
  const Manifest after = talk.manifest();
  CHECK(after.chunk(1, 1).hash == before.chunk(1, 1).hash);
  REQUIRE(talk.turn(120));
  CHECK(talk.last.reasons.empty());
  CHECK(talk.last.repaired_rows == 0);
  CHECK(talk.is_right(120));
}

TEST_CASE("damage of everything, of shared chunks, and behind fronts that were left out, is healed as well") {
  MemoryStore store;
  ToyTalk toy(store);
  SavePlan plan = SavePlan::separate(ExactCodec{});
  SUBCASE("everything") {}
  SUBCASE("pairs of layers") {
    plan.pairs = {{1, 2}};
    plan.pair_coding = LayerPairCompressor(DirectReuse{}, ExactCodec{});
  }
  SUBCASE("fronts that were left out stay out") {
    plan.left_out = {64, 48, 32, 0};
  }
  {
    auto talk = toy.open();
    REQUIRE(talk.advance(std::span(toy.tokens).first(100), toy.logits));
    REQUIRE(talk.save(plan));
  }
  const Manifest before = toy.manifest();
  for (const auto& chunk : before.chunks)
    if (chunk.is_stored()) flip_byte(store, toy.folder + "/" + before.objects[chunk.object], chunk.offset);
  {
    auto talk = toy.open();
    REQUIRE(talk.advance(std::span(toy.tokens).first(104), toy.logits));
    CHECK(toy.is_right(104));
    REQUIRE(talk.save(plan));
  }
  CHECK(toy.is_clean());
  const Manifest after = toy.manifest();
  for (std::size_t i = 0; i < before.chunks.size(); ++i)
    CHECK(after.chunks[i].is_stored() == before.chunks[i].is_stored());
  auto talk = toy.open();
  CHECK(talk.advance(std::span(toy.tokens).first(110), toy.logits)->repaired_rows == 0);
}

TEST_CASE("token by token, all that was not looked at for the damage behind it is saved again") {
  MemoryStore store;
  ToyTalk talk(store);
  talk.options.costs = Costs{.link = {.bytes_per_s = 1e12}, .layer = {.project_row_s = 1, .finish_row_s = 1}};
  REQUIRE(talk.turn(100));
  const Manifest before = talk.manifest();
  for (const std::size_t block : {1, 4})
    flip_byte(store, key_of(talk.folder, before, 2, block), before.chunk(2, block).offset);
  for (const bool damaged : {true, false}) {
    auto opened = talk.open(PlainSplit{});
    const auto report = opened.advance(std::span(talk.tokens).first(damaged ? 110 : 120), talk.logits);
    CHECK(report->reasons.size() == (damaged ? 1 : 0));
    CHECK(talk.is_right(damaged ? 110 : 120));
    REQUIRE(opened.save());
    CHECK(talk.is_clean());
  }
}

TEST_CASE("groups of a profile are healed; without the profile nothing counts as damaged, and that is what is said") {
  MemoryStore store;
  ToyTalk talk(store);
  const auto profile = test::toy_profile(talk.model);
  talk.turns_by = test::coded_by(profile);
  REQUIRE(talk.turn(100));
  const Manifest before = talk.manifest();
  talk.turns_by = test::coded_by(nullptr);
  REQUIRE(talk.turn(105));
  CHECK(talk.is_right(105));
  REQUIRE(talk.last.reasons.size() == 1);
  CHECK(talk.last.reasons.front().find("give krul that profile: the strategy's, or in ConversationOptions::codings") !=
        std::string::npos);
  CHECK(talk.last.damaged_blocks.empty());
  CHECK(talk.manifest().chunk(1, 2) == before.chunk(1, 2));

  talk.turns_by = test::coded_by(profile);
  const Manifest mixed = talk.manifest();
  flip_byte(store, key_of(talk.folder, mixed, 1, 2), mixed.chunk(1, 2).offset + 20);
  REQUIRE(talk.turn(110));
  REQUIRE(talk.last.reasons.size() == 1);
  CHECK(talk.last.reasons.front().find("layer 1 and 2 and 3, block 2") != std::string::npos);
  CHECK(talk.is_clean());
  REQUIRE(talk.turn(115));
  CHECK(talk.last.reasons.empty());
}

TEST_CASE("reasons are true: a prefix is no difference, and nothing is told that concerns what was not wanted") {
  MemoryStore store;
  ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  talk.options.read_only = true;
  const auto reasons_for = [&](const std::vector<Token>& tokens) {
    return talk.open().advance(tokens, talk.logits)->reasons;
  };
  const auto first = [&](std::size_t count) {
    return std::vector<Token>(talk.tokens.begin(), talk.tokens.begin() + static_cast<std::ptrdiff_t>(count));
  };
  CHECK(reasons_for(first(100)).empty());
  CHECK(reasons_for(first(101)).empty());
  CHECK(reasons_for(first(60)) ==
        std::vector<std::string>{"the saved state goes on for 40 more tokens, which were not asked for"});
  auto edited = first(110);
  edited[70] = (edited[70] + 1) % 64;
  CHECK(reasons_for(edited) ==
        std::vector<std::string>{"the saved state differs from token 70 on: 30 of its tokens were not used"});
  // Hardly anything is alike: the new tokens alone.
  std::vector<Token> alone = test::toy_tokens(30, 77);
  for (const bool begins_alike : {false, true}) {
    alone.front() = begins_alike ? talk.tokens.front() : (talk.tokens.front() + 1) % 64;
    if (begins_alike) alone[1] = (talk.tokens[1] + 1) % 64;
    const auto reasons = reasons_for(alone);
    REQUIRE(reasons.size() == 1);
    CHECK(reasons.front().find(begins_alike ? "from token 1 on" : "from token 0 on") != std::string::npos);
    CHECK(reasons.front().find("put saved_tokens() before the new ones") != std::string::npos);
  }
}

TEST_CASE("what cannot be read for now is recomputed and not written again") {
  Faulty store{MemoryStore()};
  ToyTalk talk(store);
  REQUIRE(talk.turn(100));
  ErrorCode code = ErrorCode::deadline;
  SUBCASE("a store that does not answer in time") {}
  SUBCASE("a right that lacks, a limit") {
    code = ErrorCode::io;
  }
  const Manifest before = talk.manifest();
  store.set_faults({{.keys = "*/segment-*", .code = code}});
  const auto saved = talk.turn(110);
  REQUIRE(saved);
  CHECK(talk.last.recomputed_all);
  CHECK(talk.last.damaged_blocks.empty());
  CHECK(saved->new_rows == 14);
  CHECK(talk.last.reasons.front().find("could not be read") != std::string::npos);
  CHECK(talk.manifest().chunk(0, 0) == before.chunk(0, 0));
  store.set_faults({});
  CHECK(talk.is_clean());
}

/// A store whose locks nobody sees, as those of some network file systems.
struct Lockless : MemoryStore {
  Result<Lock> lock(const std::string& folder) { return MemoryStore().lock(folder); }
};

/// Two writers of one conversation, of which the second saves first: the first one is refused, and nothing is lost.
template <ConversationStore S, class LoseLock>
void check_two_writers(S& one, S& two, LoseLock&& lose_lock) {
  ToyTalk first(one), second(two);
  REQUIRE(first.turn(40));
  for (const bool in_background : {false, true}) {
    auto talk = first.open();
    REQUIRE(talk.advance(std::span(first.tokens).first(60), first.logits));
    lose_lock(first.folder);
    second.tokens[45] = (first.tokens[45] + 1) % 64;
    REQUIRE(second.turn(70));
    const auto objects = two.list(second.folder).value();
    if (in_background) {
      REQUIRE(talk.save_in_background());
    }
    const auto refused = in_background ? talk.finish_save() : talk.save();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::busy);
    CHECK(refused.error().message.find("somebody else has saved") != std::string::npos);
    CHECK_FALSE(talk.save());
    CHECK(two.list(second.folder).value() == objects);
    CHECK(second.manifest().rows == 70);
    CHECK(second.manifest().tokens[45] == second.tokens[45]);
    CHECK(second.is_clean());
  }
  {
    auto talk = first.open();
    REQUIRE(talk.advance(std::span(first.tokens).first(60), first.logits));
    lose_lock(first.folder);
    REQUIRE(erase_conversation(two, second.folder));
    const auto refused = talk.save();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message.find("somebody else has erased") != std::string::npos);
    CHECK(conversation_objects(two, second.folder)->empty());
    // One that is begun anew may be as young as the one that was erased.
    REQUIRE(second.turn(50));
    CHECK(talk.save().error().code == ErrorCode::busy);
    CHECK(second.manifest().rows == 50);
  }
}

TEST_CASE("a writer that lost its lock overwrites nothing that another one has saved since") {
  SUBCASE("a lock file that was removed") {
    const test::TemporaryDirectory directory;
    FileStore one = FileStore::open(directory.path(), {.durability = Durability::none}).value();
    FileStore two = FileStore::open(directory.path(), {.durability = Durability::none}).value();
    check_two_writers(one, two,
                      [&](const std::string& folder) { std::filesystem::remove(directory.path() / folder / ".lock"); });
  }
  SUBCASE("locks that are not seen") {
    Lockless store;
    check_two_writers(store, store, [](const std::string&) {});
  }
}

TEST_CASE("a save replaces what another one has saved meanwhile, if it holds all of that") {
  Lockless store;
  ToyTalk first(store), second(store);
  REQUIRE(first.turn(40));
  auto talk = first.open();
  REQUIRE(talk.advance(std::span(first.tokens).first(60), first.logits));
  REQUIRE(second.turn(50));
  REQUIRE(second.turn(55));
  CHECK(talk.save()->generation == 4);
  CHECK(first.manifest().rows == 60);
  REQUIRE(first.turn(70));
  CHECK(first.is_right(70));
}

TEST_CASE("a save that fails leaves no objects, and says what is in force") {
  Faulty store{MemoryStore()};
  ToyTalk talk(store);
  REQUIRE(talk.turn(30));
  const auto before = store.list(talk.folder).value();
  std::string manifest;
  bool in_force = false;
  SUBCASE("the object") {
    manifest = "*/segment-*";
  }
  SUBCASE("the first copy of the manifest") {
    manifest = "*/manifest-a";
  }
  SUBCASE("the second one") {
    manifest = "*/manifest-b";
    in_force = true;
  }
  store.set_faults({{.operation = Fault::Operation::put, .keys = manifest, .code = ErrorCode::no_space}});
  const auto saved = talk.turn(40);
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == ErrorCode::no_space);
  CHECK(saved.error().message.starts_with("saved, but") == in_force);
  CHECK(talk.manifest().rows == (in_force ? 40 : 30));
  if (!in_force) CHECK(store.list(talk.folder).value() == before);
  store.set_faults({});
  CHECK(verify_conversation(store, talk.folder)->problems.empty());
  REQUIRE(talk.turn(50));
  CHECK(talk.is_right(50));
  CHECK(talk.is_clean());
}

TEST_CASE("a first save that fails leaves nothing at all") {
  Faulty store{MemoryStore()};
  ToyTalk talk(store);
  store.set_faults({{.operation = Fault::Operation::put, .keys = "*/manifest-a"}});
  CHECK_FALSE(talk.turn(40));
  CHECK(store.list("").value().empty());
}

TEST_CASE("a save that cannot tell what is in force says so, and erases nothing") {
  Faulty store{MemoryStore()};
  ToyTalk toy(store);
  auto talk = toy.open();
  REQUIRE(talk.advance(std::span(toy.tokens).first(40), toy.logits));
  store.set_faults({{.operation = Fault::Operation::put, .keys = "*/manifest-b"}, {.keys = "*/manifest-*"}});
  const auto saved = talk.save();
  REQUIRE_FALSE(saved);
  CHECK(saved.error().message.find("cannot be told") != std::string::npos);
  store.set_faults({});
  CHECK(toy.manifest().rows == 40);
  CHECK(verify_conversation(store, toy.folder)->problems.empty());
  REQUIRE(talk.save());
  CHECK(toy.is_clean());
}

TEST_CASE("a conversation whose settings change with every turn can be saved for ever") {
  MemoryStore store;
  ToyTalk toy(store);
  auto talk = toy.open();
  for (std::size_t turn = 0; turn < 300; ++turn) {
    SavePlan plan = SavePlan::separate(ExactCodec{});
    plan.settings = std::to_string(turn);
    REQUIRE(talk.advance(std::span(toy.tokens).first(20 + turn % 2), toy.logits));
    REQUIRE(talk.save(plan));
  }
  CHECK(toy.is_clean());
}

}  // namespace
}  // namespace krul
