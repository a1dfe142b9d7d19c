#include "krul/restore/presence_check.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

#include "krul/compress/exact_codec.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

/// Says of itself whether it is distant; may throw when it is asked for sizes.
struct PerhapsDistant : MemoryStore {
  bool is_distant = false, throws = false;

  Result<std::uint64_t> size(const std::string& key) {
    if (throws) throw std::runtime_error("no sizes today");
    return MemoryStore::size(key);
  }
  [[nodiscard]] StoreCapabilities capabilities() const { return {.distant = is_distant}; }
};
static_assert(ConversationStore<PerhapsDistant>);

}  // namespace

TEST_CASE("what a near store has not is known at once, of a distant one it is heard later, and once") {
  toy::Backend model{ElementType::f32};
  const auto tokens = test::toy_tokens(40);
  const auto run = test::run_through(model, tokens);
  const std::string folder = conversation_folder("saved").value();
  for (const bool is_distant : {false, true})
    for (const bool is_gone : {false, true}) {
      PerhapsDistant store{MemoryStore(), is_distant};
      REQUIRE(save_as(model, store, run.cache, tokens,
                      {.id = "saved", .plan = SavePlan::separate(ExactCodec{}), .block = 16}));
      const Manifest manifest = load_manifest(store, folder)->manifest;
      if (is_gone) REQUIRE(store.erase(folder + "/" + manifest.objects.at(0)));
      PresenceCheck check(store, manifest, folder, 40, CodingSet());
      CHECK(check.lost().gone.size() == (is_gone && !is_distant ? 3 : 0));
      CHECK(check.hears_of_more() == (is_gone && is_distant));
      CHECK(check.lost().gone.size() == (is_gone ? 3 : 0));
      CHECK_FALSE(check.hears_of_more());
    }
}

TEST_CASE("what a distant store throws is thrown where its answer is wanted") {
  PerhapsDistant store{MemoryStore(), true, true};
  Manifest manifest;
  manifest.objects = {"segment"};
  PresenceCheck check(store, manifest, conversation_folder("saved").value(), 0, CodingSet());
  CHECK_THROWS_AS(static_cast<void>(check.hears_of_more()), std::runtime_error);
  store.is_distant = false;
  CHECK_THROWS_AS(PresenceCheck(store, manifest, conversation_folder("saved").value(), 0, CodingSet()),
                  std::runtime_error);
}

}  // namespace krul
