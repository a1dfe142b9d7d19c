// Random saves, edits, forks, erases and collections over a few conversations, of which calls to the store fail, locks
// are lost and processes are killed, also while somebody else does the same. KRUL_PROBES=N tries N times as much.

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <random>
#include <set>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "probe_support.hpp"
#include "support/toy_conversation.hpp"

namespace krul::fork_probes {
namespace {

constexpr std::size_t block = 8, longest = 60, ids = 6;

/// What happens to one process at one of its calls.
struct Mishap {
  enum class Kind {
    none,
    killed,     ///< this call and all after it do nothing
    fails,      ///< this call does nothing
    one_lost,   ///< one of its locks is lost
    all_lost,   ///< all are
    meanwhile,  ///< somebody else gets on
  } kind = Kind::none;
  std::size_t at = 0;
  std::function<void()> then = {};  ///< what somebody else does once it has happened
};

/// A process's view of a shared store, whose locks can be lost: writes to such a folder are refused from then on.
class Process {
  struct State {
    MemoryStore store;
    Mishap mishap;
    std::size_t calls = 0;
    bool is_dead = false;
    std::map<std::string, MemoryStore::Lock> held = {};
    std::set<std::string> lost = {};
  };

 public:
  class Lock {
   public:
    Lock(std::shared_ptr<State> state, std::string folder) : state_(std::move(state)), folder_(std::move(folder)) {}
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (!state_) return;
      state_->held.erase(folder_);
      state_->lost.erase(folder_);
    }

   private:
    std::shared_ptr<State> state_;
    std::string folder_;
  };

  explicit Process(MemoryStore store, Mishap mishap = {})
      : state_(std::make_shared<State>(State{std::move(store), std::move(mishap)})) {}

  [[nodiscard]] Status put(const std::string& key, std::span<const std::byte> bytes) {
    if (auto status = may_write(key); !status) return status;
    return state_->store.put(key, bytes);
  }
  [[nodiscard]] Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    if (auto status = meet(); !status) return status;
    return state_->store.get(key, offset, to);
  }
  [[nodiscard]] Result<std::uint64_t> size(const std::string& key) {
    if (auto status = meet(); !status) return propagate(status);
    return state_->store.size(key);
  }
  [[nodiscard]] Status erase(const std::string& key) {
    if (auto status = may_write(key); !status) return status;
    return state_->store.erase(key);
  }
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& folder) {
    if (auto status = meet(); !status) return propagate(status);
    return state_->store.list(folder);
  }
  [[nodiscard]] Result<Lock> lock(const std::string& folder) {
    if (auto status = meet(); !status) return propagate(status);
    auto lock = state_->store.lock(folder);
    if (!lock) return propagate(lock);
    state_->held.emplace(folder, std::move(*lock));
    return Lock(state_, folder);
  }
  [[nodiscard]] StoreCapabilities capabilities() const { return {.shared = true}; }

  [[nodiscard]] std::size_t calls() const { return state_->calls; }

 private:
  [[nodiscard]] Status meet() {
    State& state = *state_;
    const bool is_now = state.calls++ == state.mishap.at;
    bool fails = false;
    if (is_now) {
      switch (state.mishap.kind) {
        case Mishap::Kind::none:
        case Mishap::Kind::meanwhile:
          break;
        case Mishap::Kind::killed:
          state.is_dead = true;
          break;
        case Mishap::Kind::fails:
          fails = true;
          break;
        case Mishap::Kind::one_lost:
          if (!state.held.empty()) lose(state.held.begin()->first);
          break;
        case Mishap::Kind::all_lost:
          while (!state.held.empty()) lose(std::string(state.held.begin()->first));
          break;
      }
      if (state.mishap.then) state.mishap.then();
    }
    if (state.is_dead || fails) return fail(ErrorCode::io, "a fault that was asked for; try again");
    return {};
  }
  [[nodiscard]] Status may_write(const std::string& key) {
    if (auto status = meet(); !status) return status;
    if (!state_->lost.contains(key.substr(0, 32))) return {};
    return fail(ErrorCode::busy, "the lock was lost; open the conversation again");
  }
  void lose(const std::string& folder) {
    state_->lost.insert(folder);
    state_->held.erase(folder);
  }

  std::shared_ptr<State> state_;
};
static_assert(ConversationStore<Process>);

/// Something that is done to a conversation.
struct Deed {
  enum class Kind { save, fork, erase, collect } kind = Kind::collect;
  std::size_t id = 0, other = 0;   ///< other: of a fork, what it is called
  std::vector<Token> tokens = {};  ///< of a save: all
  std::size_t at = SIZE_MAX;       ///< of a fork: its tokens
};

using Saved = std::optional<std::vector<Token>>;

class World {
 public:
  explicit World(unsigned seed) : random_(seed) {}

  void step() {
    const Deed deed = any_deed();
    Mishap mishap{static_cast<Mishap::Kind>(below(6)), below(below(2) == 0 ? 12 : 40)};
    std::vector<Deed> all{deed};
    if (mishap.kind >= Mishap::Kind::one_lost) {
      for (std::size_t i = below(2); i < 2; ++i) all.push_back(below(2) == 0 ? near(deed) : any_deed());
      mishap.then = [this, all] {
        for (std::size_t i = 1; i < all.size(); ++i) static_cast<void>(did(all[i], {}));
      };
    }
    CAPTURE(static_cast<int>(mishap.kind));
    CAPTURE(mishap.at);
    std::string deeds;
    for (const Deed& each : all) deeds += describe(each);
    CAPTURE(deeds);
    std::array<std::vector<Saved>, ids> possible;
    for (std::size_t id = 0; id < ids; ++id) possible[id].push_back(now(id));
    for (std::size_t round = 0; round < all.size(); ++round)
      for (const Deed& each : all) widen(possible, each);
    const auto before = now(deed.other);
    const bool done = did(deed, mishap);
    if (mishap.kind == Mishap::Kind::fails && deed.kind == Deed::Kind::fork && !done) CHECK(now(deed.other) == before);
    for (std::size_t id = 0; id < ids; ++id) {
      CAPTURE(id);
      CHECK(std::ranges::find(possible[id], now(id)) != possible[id].end());
      check_sound(id);
    }
    check_restores(below(ids));
  }

  /// Nothing is left but what some manifest names, and all of that is there.
  void check_collected() {
    collect_all();
    std::set<std::string> named;
    for (std::size_t id = 0; id < ids; ++id) {
      check_sound(id);
      const auto loaded = load_saved(store_, name(id));
      if (!loaded) continue;
      for (const std::string& object : loaded->manifest.objects) named.insert(object_key(folder(id), object));
    }
    std::set<std::string> there;
    for (const std::string& folder : names_in(""))
      for (const std::string& object : names_in(folder))
        if (is_segment_name(object)) there.insert(folder + "/" + object);
    CHECK(there == named);
  }

  void check_all_restore() {
    for (std::size_t id = 0; id < ids; ++id) check_restores(id);
  }

  void end() {
    for (std::size_t id = 0; id < ids; ++id)
      if (const auto erased = erase_saved(store_, name((id * 5 + 2) % ids))) CHECK(erased->status);
    collect_all();
    CHECK(store_.list("").value().empty());
  }

 private:
  [[nodiscard]] std::size_t below(std::size_t limit) { return random_() % limit; }
  [[nodiscard]] static std::string name(std::size_t id) { return "talk " + std::to_string(id); }
  [[nodiscard]] static std::string folder(std::size_t id) { return conversation_folder(name(id)).value(); }
  [[nodiscard]] std::vector<std::string> names_in(const std::string& folder) { return store_.list(folder).value(); }
  [[nodiscard]] Saved now(std::size_t id) {
    const auto loaded = load_saved(store_, name(id));
    if (loaded) return loaded->manifest.tokens;
    CHECK(loaded.error().code == ErrorCode::not_found);
    return std::nullopt;
  }

  [[nodiscard]] Deed any_deed() {
    const std::size_t among = below(3) == 0 ? ids : 3;  // few who often get in each other's way
    Deed deed{.id = below(among), .other = below(among), .at = below(longest + 20) + 1};
    const std::size_t kind = below(10);
    deed.kind = kind < 4   ? Deed::Kind::save
                : kind < 7 ? Deed::Kind::fork
                : kind < 9 ? Deed::Kind::erase
                           : Deed::Kind::collect;
    if (deed.kind != Deed::Kind::save) return deed;
    // Few beginnings, so that conversations that were erased come again as they were.
    Saved from = now(deed.id);
    if (!from || below(6) == 0) from = test::toy_tokens(10 + 10 * below(4), static_cast<unsigned>(below(2)));
    if (from->size() % 10 == 0 && below(3) == 0) {
      deed.tokens = std::move(*from);
      return deed;
    }
    from->resize(from->size() - (below(2) == 0 ? below(from->size()) : 0));
    const auto more = test::toy_tokens(1 + below(20), static_cast<unsigned>(below(1000)));
    if (from->size() < longest && below(3) > 0) from->insert(from->end(), more.begin(), more.end());
    deed.tokens = std::move(*from);
    return deed;
  }
  /// Something that is likely to get in the way.
  [[nodiscard]] Deed near(const Deed& deed) {
    Deed next = any_deed();
    next.id = below(2) == 0 ? deed.id : deed.other;
    next.other = below(2) == 0 ? deed.other : deed.id;
    if (next.kind == Deed::Kind::save && next.tokens.empty()) next.kind = Deed::Kind::erase;
    return next;
  }

  static void widen(std::array<std::vector<Saved>, ids>& possible, const Deed& deed) {
    switch (deed.kind) {
      case Deed::Kind::save:
        possible[deed.id].push_back(deed.tokens);
        break;
      case Deed::Kind::erase:
        possible[deed.id].push_back(std::nullopt);
        break;
      case Deed::Kind::collect:
        break;
      case Deed::Kind::fork: {
        const auto of = possible[deed.id];
        for (Saved each : of) {
          if (each) each->resize(std::min(each->size(), deed.at));
          possible[deed.other].push_back(std::move(each));
        }
        break;
      }
    }
  }

  /// Does it in a process of its own. False if that was told to have failed.
  bool did(const Deed& deed, Mishap mishap) {
    Process process(store_, std::move(mishap));
    switch (deed.kind) {
      case Deed::Kind::save:
        return save(process, deed);
      case Deed::Kind::fork:
        return fork_saved(process, name(deed.id), {.to = name(deed.other), .tokens = deed.at}).has_value();
      case Deed::Kind::erase: {
        const auto erased = erase_saved(process, name(deed.id));
        return erased && erased->status;
      }
      case Deed::Kind::collect:
        break;
    }
    const auto folders = process.list("");
    if (!folders) return false;
    bool all = true;
    for (const std::string& folder : *folders) all = collect_folder(process, folder).has_value() && all;
    return all;
  }

  [[nodiscard]] static ConversationOptions options() {
    ConversationOptions how;
    how.strategy = strategy::load(ExactCodec{});
    how.block = block;
    return how;
  }
  bool save(Process& process, const Deed& deed) {
    auto conversation = Conversation<toy::Backend, Process>::open(model_, process, name(deed.id), options());
    if (!conversation) return false;
    std::vector<float> logits(model_.geometry().vocabulary);
    if (!conversation->advance(deed.tokens, std::span(logits))) return false;
    return conversation->save().has_value();
  }

  void check_sound(std::size_t id) {
    const auto report = verify_conversation(store_, folder(id));
    if (!report) {
      CHECK(report.error().code == ErrorCode::not_found);
      return;
    }
    CHECK(report->problems == std::vector<std::string>{});
    CHECK(report->unread == std::vector<std::string>{});
  }
  void check_restores(std::size_t id) {
    auto saved = now(id);
    if (!saved) return;
    saved->push_back(7);
    const auto loaded = load_saved(store_, name(id)).value();
    auto how = options();
    how.read_only = true;
    auto conversation = Conversation<toy::Backend, MemoryStore>::open(model_, store_, name(id), how).value();
    std::vector<float> logits(model_.geometry().vocabulary);
    const RestoreReport report = conversation.advance(*saved, std::span(logits)).value();
    CHECK(logits == test::run_through(model_, *saved).logits);
    CHECK(report.loaded_rows == loaded.manifest.rows * model_.geometry().layers);
  }
  void collect_all() {
    for (const std::string& folder : names_in("")) CHECK(collect_folder(store_, folder));
  }

  [[nodiscard]] static std::string describe(const Deed& deed) {
    static constexpr std::array kinds = {"save ", "fork ", "erase ", "collect "};
    return kinds[static_cast<std::size_t>(deed.kind)] + std::to_string(deed.id) + " " + std::to_string(deed.other) +
           ", ";
  }

  std::mt19937 random_;
  toy::Backend model_{ElementType::f32};
  MemoryStore store_;
};

}  // namespace

TEST_CASE(
    "whatever fails, whoever is killed or loses a lock: every conversation keeps its rows, and nothing else stays") {
  for (unsigned seed = 0; seed < test::probes(1) * 40; ++seed) {
    CAPTURE(seed);
    World world(seed);
    for (int step = 0; step < 40; ++step) {
      CAPTURE(step);
      world.step();
      if (step % 10 == 9) world.check_collected();
    }
    world.check_all_restore();
    world.end();
  }
}

}  // namespace krul::fork_probes
