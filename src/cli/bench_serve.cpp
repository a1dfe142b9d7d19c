#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>

#include "bench.hpp"
#include "krul/eval/timed_work.hpp"
#include "krul/strategy/catalogue.hpp"
#include "machine_costs.hpp"
#include "number_option.hpp"
#include "output_file.hpp"
#include "revision.hpp"
#include "text_lines.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

/// A command's words, one after the other.
class Words {
 public:
  Words(const std::string& line, const Geometry& geometry, std::size_t room)
      : words_(line), vocabulary_(geometry.vocabulary), room_(room) {}

  std::string word() {
    std::string text;
    if (!(words_ >> text)) throw Failure({ErrorCode::invalid_argument, "the command lacks a word"});
    return text;
  }
  std::size_t number() {
    const std::string text = word();
    const auto value = parse_number<std::size_t>(text);
    if (!value || *value > room_)
      throw Failure({ErrorCode::invalid_argument, "\"" + text + "\" is not a number of tokens within the context"});
    return *value;
  }
  /// All that are left.
  std::vector<Token> tokens() {
    std::vector<Token> found;
    for (long long id; words_ >> id;) {
      if (id < 0 || static_cast<std::size_t>(id) >= vocabulary_)
        throw Failure({ErrorCode::invalid_argument, "token " + std::to_string(id) + " is not in the vocabulary"});
      found.push_back(static_cast<Token>(id));
    }
    if (found.empty()) throw Failure({ErrorCode::invalid_argument, "the command lacks tokens"});
    return found;
  }

 private:
  std::istringstream words_;
  std::size_t vocabulary_, room_;
};

/// krul's side of the line protocol in benchmarks/peer/README.md.
class Side {
 public:
  Side(LoadedModel& model, const MachineCosts& costs, AnyStrategy strategy)
      : model_(model),
        costs_(costs),
        strategy_(std::move(strategy)),
        work_(model.backend, std::min(model.backend.geometry().context, most_tokens)) {}

  Json hello() {
    unwrap(work_.prefill(1));
    const auto& geometry = model_.backend.geometry();
    return {{"ok", true},
            {"program", "krul"},
            {"version", revision()},
            {"model", model_.name},
            {"file_type", model_.backend.identity().kernels},
            {"threads", threads()},
            {"vocabulary", geometry.vocabulary},
            {"context", geometry.context},
            {"precision", model_.backend.identity().kernels},
            {"cache", name(geometry.cache_type)},
            {"strategy", strategy_.name()}};
  }

  Json answer(const std::string& line) {
    Words words(line, model_.backend.geometry(), work_.room());
    const std::string command = words.word();
    if (command == "hello") return hello();
    if (command == "prefill") return prefill(words.number());
    // Words are read one statement after another: a call's arguments have no order.
    if (command == "logits") {
      const std::string file = words.word();
      return logits(file, words.tokens());
    }
    const bool known = command == "decode" || command == "save" || command == "restore" || command == "recompute" ||
                       command == "greedy";
    if (!known) throw Failure({ErrorCode::invalid_argument, "unknown command \"" + command + "\""});
    const std::size_t first = words.number();
    if (command == "save") return save(first, words.word());
    if (command == "greedy") return greedy(first, words.tokens());
    const std::size_t second = words.number();
    if (command == "decode") return decode(first, second);
    if (command == "recompute") return returned(first, second, unwrap(work_.recompute(first, second)));
    return restore(first, second, words.word());
  }

 private:
  static constexpr std::size_t most_tokens = 32768;  // room is not taken for whatever context a file declares

  std::size_t threads() { return model_.backend.workers().threads(); }
  static Json told(double seconds, Json more) {
    Json reply = {{"ok", true}, {"seconds", seconds}};
    reply.update(more);
    return reply;
  }
  static Json returned(std::size_t history, std::size_t prompt, const eval::TimedReturn& found) {
    Json reply = told(found.seconds, {{"tokens", history}, {"prompt", prompt}});
    if (found.report)
      reply.update({{"bytes", found.report->bytes}, {"predicted_s", found.report->predicted.total_s()}});
    reply["first_token"] = found.first;
    return reply;
  }

  Json prefill(std::size_t count) {
    const double taken = unwrap(work_.prefill(count));
    return told(taken, {{"tokens", count}, {"tokens_per_s", static_cast<double>(count) / taken}});
  }
  Json decode(std::size_t history, std::size_t count) {
    const double taken = unwrap(work_.decode(history, count));
    return told(taken, {{"history", history}, {"tokens", count}, {"tokens_per_s", static_cast<double>(count) / taken}});
  }
  Json save(std::size_t history, const std::string& folder) {
    const SaveAs as{.id = "peer", .plan = strategy_.needs().codings.front(), .threads = threads()};
    const auto saved = unwrap(work_.save(std::filesystem::path(folder), history, as));
    return told(saved.seconds, {{"tokens", history}, {"bytes", saved.bytes}});
  }
  Json restore(std::size_t history, std::size_t prompt, const std::string& folder) {
    const eval::Returning saved{.strategy = strategy_,
                                .id = "peer",
                                .tokens = {},
                                .costs = costs_.of(strategy_, model_.backend.geometry().layers)};
    return returned(history, prompt, unwrap(work_.restore(std::filesystem::path(folder), saved, history, prompt)));
  }
  Json greedy(std::size_t count, const std::vector<Token>& prompt) {
    const auto text = unwrap(work_.greedy(prompt, count));
    return told(text.seconds, {{"tokens", text.tokens}, {"best", text.best}});
  }
  Json logits(const std::string& file, const std::vector<Token>& tokens) {
    const std::size_t vocabulary = model_.backend.geometry().vocabulary;
    std::vector<float> all(tokens.size() * vocabulary);
    const double taken = unwrap(work_.all_logits(tokens, all));
    write_file(file, {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
    return told(taken, {{"tokens", tokens.size()}, {"vocabulary", vocabulary}});
  }

  LoadedModel& model_;
  const MachineCosts& costs_;
  AnyStrategy strategy_;
  eval::TimedWork<AnyModel> work_;
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
