#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>

#include "bench.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/model/sampling.hpp"
#include "krul/store/page_cache.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "output_file.hpp"
#include "revision.hpp"
#include "text_lines.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

/// krul's side of the line protocol in benchmarks/peer/README.md.
class Side {
 public:
  Side(LoadedModel& model, const MachineCosts& costs, AnyStrategy strategy)
      : model_(model),
        costs_(costs),
        strategy_(std::move(strategy)),
        batch_(model.backend.make_batch()),
        cache_(model.backend.make_cache(std::min(model.backend.geometry().context, most_tokens))),
        logits_(model.backend.geometry().vocabulary) {}

  Json hello() {
    run(made_up(0, 1));
    const auto& geometry = model_.backend.geometry();
    return {{"ok", true},
            {"program", "krul"},
            {"version", revision()},
            {"model", model_.name},
            {"file_type", model_.backend.identity().kernels},
            {"threads", model_.backend.workers().threads()},
            {"vocabulary", geometry.vocabulary},
            {"context", geometry.context},
            {"precision", model_.backend.identity().kernels},
            {"cache", name(geometry.cache_type)},
            {"strategy", strategy_.name()}};
  }

  Json answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "hello") return hello();
    if (command == "prefill") return prefill_tokens(number(words));
    // Words are read one statement after another: a call's arguments have no order.
    if (command == "logits") {
      const std::string file = word(words);
      return all_logits(file, rest(words));
    }
    const bool known = command == "decode" || command == "save" || command == "restore" || command == "recompute" ||
                       command == "greedy";
    if (!known) throw Failure({ErrorCode::invalid_argument, "unknown command \"" + command + "\""});
    const std::size_t first = number(words);
    if (command == "save") return save(first, word(words));
    if (command == "greedy") return greedy(first, rest(words));
    const std::size_t second = number(words);
    if (command == "decode") return decode(first, second);
    if (command == "recompute") return recompute(first, second);
    return restore(first, second, word(words));
  }

 private:
  static constexpr std::size_t most_tokens = 32768;  // room is not taken for whatever context a file declares

  static std::string word(std::istringstream& words) {
    std::string text;
    if (!(words >> text)) throw Failure({ErrorCode::invalid_argument, "the command lacks a word"});
    return text;
  }
  std::size_t number(std::istringstream& words) const {
    const std::string text = word(words);
    char* end = nullptr;
    const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
    if (*end != '\0' || text[0] == '-' || value > cache_.capacity())
      throw Failure({ErrorCode::invalid_argument, "\"" + text + "\" is not a number of tokens within the context"});
    return value;
  }
  std::vector<Token> rest(std::istringstream& words) const {
    std::vector<Token> tokens;
    for (long long id; words >> id;) {
      if (id < 0 || static_cast<std::size_t>(id) >= model_.backend.geometry().vocabulary)
        throw Failure({ErrorCode::invalid_argument, "token " + std::to_string(id) + " is not in the vocabulary"});
      tokens.push_back(static_cast<Token>(id));
    }
    if (tokens.empty()) throw Failure({ErrorCode::invalid_argument, "the command lacks tokens"});
    return tokens;
  }

  std::vector<Token> made_up(std::size_t begin, std::size_t count) const {
    const std::size_t range = std::min<std::size_t>(40000, model_.backend.geometry().vocabulary - 100);
    std::vector<Token> tokens(count);
    for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<Token>(100 + 7919 * (begin + i) % range);
    return tokens;
  }

  void run(const std::vector<Token>& tokens) {
    if (tokens.empty()) throw Failure({ErrorCode::invalid_argument, "no tokens to run"});
    if (cache_.length() + tokens.size() > cache_.capacity())
      throw Failure({ErrorCode::too_large, "the tokens do not fit the context"});
    krul::prefill(model_.backend, cache_, batch_, tokens, logits_);
  }

  template <class Work>
  static double timed(Work&& work) {
    return eval::seconds_taken(SteadyClock{}, work);
  }

  Json prefill_tokens(std::size_t count) {
    cache_.truncate(0);
    const auto tokens = made_up(0, count);
    const double taken = timed([&] { run(tokens); });
    return {{"ok", true}, {"seconds", taken}, {"tokens", count}, {"tokens_per_s", static_cast<double>(count) / taken}};
  }

  Json decode(std::size_t history, std::size_t count) {
    cache_.truncate(0);
    if (history > 0) run(made_up(0, history));
    const auto tokens = made_up(history, count);
    const double taken = timed([&] {
      for (const Token token : tokens) run({token});
    });
    return {{"ok", true},
            {"seconds", taken},
            {"history", history},
            {"tokens", count},
            {"tokens_per_s", static_cast<double>(count) / taken}};
  }

  Json save(std::size_t history, const std::string& folder) {
    cache_.truncate(0);
    const auto tokens = made_up(0, history);
    run(tokens);
    AnyStore store =
        unwrap(FileStore::open(folder, {.durability = Durability::none}));  // as the peer: not forced to the medium
    SaveReport report;
    const double taken = timed([&] {
      report = unwrap(save_as(
          model_.backend, store, cache_, tokens,
          {.id = "peer", .plan = strategy_.needs().codings.front(), .threads = model_.backend.workers().threads()}));
    });
    return {{"ok", true}, {"seconds", taken}, {"tokens", history}, {"bytes", report.bytes}};
  }

  Json restore(std::size_t history, std::size_t prompt, const std::string& folder) {
    AnyStore store = unwrap(FileStore::open(folder, {.create = false}));
    drop_from_page_cache(folder);
    const eval::Returning returning{.strategy = strategy_,
                                    .id = "peer",
                                    .tokens = made_up(0, history + prompt),
                                    .costs = costs_.of(strategy_, model_.backend.geometry().layers)};
    const auto restored = unwrap(eval::restore_once(model_.backend, store, returning));
    const auto& figure = restored.figure;
    if (figure.report.matched != history)
      throw Failure({ErrorCode::not_found, "the saved state does not hold these tokens; save first"});
    return {{"ok", true},
            {"seconds", figure.first_token_s},
            {"tokens", history},
            {"prompt", prompt},
            {"bytes", figure.report.bytes},
            {"predicted_s", figure.report.predicted.total_s()},
            {"first_token", krul::greedy(restored.logits)}};
  }

  Json recompute(std::size_t history, std::size_t prompt) {
    cache_.truncate(0);
    const auto tokens = made_up(0, history + prompt);
    const double taken = timed([&] { run(tokens); });
    return {{"ok", true},
            {"seconds", taken},
            {"tokens", history},
            {"prompt", prompt},
            {"first_token", krul::greedy(logits_)}};
  }

  Json greedy(std::size_t count, const std::vector<Token>& prompt) {
    cache_.truncate(0);
    Json tokens = Json::array(), best = Json::array();
    const double taken = timed([&] {
      run(prompt);
      for (std::size_t i = 0; i < count; ++i) {
        const Token token = krul::greedy(logits_);
        tokens.push_back(token);
        std::vector<float> ordered = logits_;
        std::ranges::nth_element(ordered, ordered.begin() + 1, std::greater{});
        best.push_back({ordered[0], ordered[1]});
        if (i + 1 < count) run({token});
      }
    });
    return {{"ok", true}, {"seconds", taken}, {"tokens", tokens}, {"best", best}};
  }

  Json all_logits(const std::string& file, const std::vector<Token>& tokens) {
    cache_.truncate(0);
    std::vector<float> all(tokens.size() * logits_.size());
    const double taken = timed([&] { forward(model_.backend, cache_, batch_, tokens, all); });
    write_file(file, {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
    return {{"ok", true}, {"seconds", taken}, {"tokens", tokens.size()}, {"vocabulary", logits_.size()}};
  }

  LoadedModel& model_;
  const MachineCosts& costs_;
  AnyStrategy strategy_;
  CpuModel::Batch batch_;
  CpuModel::Cache cache_;
  std::vector<float> logits_;
};

struct ServeOptions {
  ModelOptions model;
  std::string strategy = "krul";
};

void serve(const ServeOptions& options, const Tool& tool) {
  const auto strategy = unwrap(strategy::named(strategy::catalogue(), options.strategy));
  auto model = options.model.load(tool);
  const auto costs = machine_costs(model, tool);
  Side side(model, costs, strategy);
  std::cout << side.hello().dump() << std::endl;
  const auto next = [] { return unwrap(next_line(stdin)); };
  for (auto line = next(); std::cout && line && *line != "quit"; line = next()) {
    Json reply;
    try {
      reply = side.answer(*line);
    } catch (const Failure& failure) {
      reply = {{"ok", false}, {"error", failure.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}

}  // namespace

void add_bench_serve(CLI::App& bench, Tool& tool) {
  auto options = std::make_shared<ServeOptions>();
  auto* verb = bench.add_subcommand(
      "serve", "answer commands on standard input, for comparisons with other programs in the same rounds");
  options->model.add_to(*verb);
  verb->add_option("--strategy", options->strategy, "how states are saved and restored")->capture_default_str();
  verb->callback([options, &tool] { serve(*options, tool); });
}

}  // namespace krul::cli
