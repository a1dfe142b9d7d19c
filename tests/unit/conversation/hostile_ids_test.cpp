// Ids are data, and what was planted in a store is not followed: from open to erase, through files.

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "krul/conversation/saved_conversations.hpp"
#include "krul/store/file_store.hpp"
#include "support/temporary_directory.hpp"
#include "support/toy_talk.hpp"

namespace krul::test {
namespace {

namespace fs = std::filesystem;
using Talk = Conversation<toy::Backend, FileStore>;

const std::vector<std::string>& hostile_ids() {
  static const std::vector<std::string> ids = {".",
                                               "..",
                                               "/",
                                               "../../../../tmp/krul",
                                               "/etc/passwd",
                                               "a/b",
                                               "a\\b",
                                               std::string(1, '\0'),
                                               std::string("a\0b", 3),
                                               std::string("a\0c", 3),
                                               "\n",
                                               " ",
                                               "-rf",
                                               "~",
                                               ".lock",
                                               ".new-1-2",
                                               "manifest-a",
                                               "0123456789abcdef0123456789abcdef",
                                               "\xff\xfe",
                                               "\xc3",              // cut off
                                               "\xed\xa0\x80",      // half a pair
                                               "\xf4\x90\x80\x80",  // beyond Unicode
                                               "\x1b[2J",
                                               "e\xcc\x81",
                                               "\xc3\xa9",
                                               std::string(4096, '.'),
                                               std::string(4095, '/') + "x",
                                               std::string(4096, '\xff')};
  return ids;
}

struct TalksInFiles {
  TemporaryDirectory directory;
  fs::path path = directory.path() / "store";
  FileStore store = FileStore::open(path, {.durability = Durability::none}).value();
  toy::Backend model{ElementType::f32};
  std::vector<float> logits = std::vector<float>(model.geometry().vocabulary);

  Result<Talk> open(std::string id) {
    ConversationOptions options{.strategy = strategy::by_layer("exact", ExactCodec{}), .block = 16};
    return Talk::open(model, store, std::move(id), std::move(options));
  }
  void turn(const std::string& id, const std::vector<Token>& tokens) {
    auto talk = open(id).value();
    REQUIRE(talk.advance(tokens, logits));
    REQUIRE(talk.save());
  }
};

std::string text_in(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_CASE("whatever an id is, it is kept, found, listed and erased as that, and leads nowhere") {
  TalksInFiles files;
  for (std::size_t i = 0; i < hostile_ids().size(); ++i)
    files.turn(hostile_ids()[i], toy_tokens(20, static_cast<unsigned>(i + 1)));
  for (const auto& entry : fs::directory_iterator(files.path)) CHECK(is_store_folder(entry.path().filename().string()));
  for (const auto& entry : fs::directory_iterator(files.directory.path())) CHECK(entry.path() == files.path);

  const auto listed = saved_conversations(files.store).value();
  CHECK(listed.size() == hostile_ids().size());
  for (std::size_t i = 0; i < hostile_ids().size(); ++i) {
    const std::string& id = hostile_ids()[i];
    CAPTURE(i);
    const auto saved = load_saved(files.store, id);
    REQUIRE(saved);
    CHECK(saved->manifest.conversation == id);
    CHECK(saved->manifest.tokens == toy_tokens(20, static_cast<unsigned>(i + 1)));
    CHECK(std::ranges::any_of(listed, [&](const auto& each) { return each.saved->manifest.conversation == id; }));
    auto tokens = saved->manifest.tokens;
    tokens.push_back(3);
    auto talk = files.open(id).value();
    CHECK(talk.advance(tokens, files.logits)->matched == 20);
    CHECK(files.logits == run_through(files.model, tokens).logits);
  }
  for (const std::string& id : hostile_ids()) {
    const auto erased = erase_saved(files.store, id);
    CHECK((erased && erased->status && erased->left.empty()));
    CHECK(load_saved(files.store, id).error().code == ErrorCode::not_found);
  }
  CHECK(fs::is_empty(files.path));
}

TEST_CASE("what can be no id is refused before anything is made") {
  TalksInFiles files;
  for (const auto& [id, code] :
       {std::pair{std::string(), ErrorCode::invalid_argument}, std::pair{std::string(4097, 'a'), ErrorCode::too_large},
        std::pair{std::string(1 << 20, '\0'), ErrorCode::too_large}}) {
    CHECK(files.open(id).error().code == code);
    CHECK(load_saved(files.store, id).error().code == code);
    CHECK(erase_saved(files.store, id).error().code == code);
  }
  CHECK(fs::is_empty(files.path));
}

TEST_CASE("a link in an object's place is not read, and a save puts the object there and leaves what it led to") {
  TalksInFiles files;
  const auto tokens = toy_tokens(20);
  files.turn("a talk", tokens);
  const auto saved = load_saved(files.store, "a talk").value().manifest;
  const fs::path folder = files.path / conversation_folder("a talk").value(),
                 outside = files.directory.path() / "outside";
  fs::create_directory(outside);
  std::string name = std::string(manifest_names[0]);
  SUBCASE("a copy of the manifest") {}
  SUBCASE("the other copy") {
    name = manifest_names[1];
  }
  SUBCASE("a segment") {
    name = saved.objects.front();
  }
  fs::rename(folder / name, outside / name);  // which would be as good as the object itself
  fs::create_symlink(outside / name, folder / name);
  const std::string before = text_in(outside / name);

  const auto report = verify_conversation(files.store, conversation_folder("a talk").value());
  REQUIRE(report);
  CHECK(report->unread.size() == 1);
  auto longer = tokens;
  longer.push_back(3);
  {
    auto talk = files.open("a talk").value();
    const auto restored = talk.advance(longer, files.logits);
    REQUIRE(restored);
    CHECK((name == saved.objects.front()) == (restored->repaired_rows > 0));
    CHECK(files.logits == run_through(files.model, longer).logits);
    REQUIRE(talk.save());
  }
  CHECK(text_in(outside / name) == before);
  if (name != saved.objects.front()) CHECK(fs::symlink_status(folder / name).type() == fs::file_type::regular);
  auto again = files.open("a talk").value();
  longer.push_back(5);
  REQUIRE(again.advance(longer, files.logits));
  CHECK(files.logits == run_through(files.model, longer).logits);
}

}  // namespace
}  // namespace krul::test
