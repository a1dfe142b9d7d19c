// The llama.cpp side of a comparison: makes model files of other types, and answers timing commands line by line.
// The commands and replies are described in README.md; `krul bench serve` speaks the same.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "llama.h"

namespace {

/// What a person or a script did wrong; the text says what to do.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void require(bool condition, const std::string& otherwise) {
  if (!condition) throw Refusal(otherwise);
}

double seconds_of(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One JSON object, written key by key in the order of the calls.
class Reply {
 public:
  Reply& number(std::string_view key, double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.9g", value);
    return raw(key, digits);
  }
  Reply& count(std::string_view key, std::uint64_t value) { return raw(key, std::to_string(value)); }
  Reply& flag(std::string_view key, bool value) { return raw(key, value ? "true" : "false"); }
  Reply& text(std::string_view key, std::string_view value) {
    std::string quoted = "\"";
    for (const char letter : value) {
      if (letter == '"' || letter == '\\') quoted += '\\';
      quoted += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
    return raw(key, quoted + '"');
  }
  Reply& raw(std::string_view key, std::string_view value) {
    body_ += (body_.empty() ? "\"" : ", \"") + std::string(key) + "\": " + std::string(value);
    return *this;
  }
  std::string line() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};

/// Token at `position` of the text that all speed commands run on; every implementation of the protocol uses this rule.
llama_token made_up_token(std::size_t position, int vocabulary) {
  const std::size_t usable = static_cast<std::size_t>(std::min(40000, vocabulary - 100));
  return static_cast<llama_token>(100 + position * 7919 % usable);
}

void drop_from_page_cache(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY);
  require(file >= 0, "cannot open " + path + ": save it first");
  fdatasync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

struct Options {
  std::string model;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  int context = 4096;
  int ubatch = 512;
  bool flash = true;
  std::string cache = "f16";
};

const std::map<std::string, ggml_type, std::less<>> cache_types = {
    {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
    {"q8_0", GGML_TYPE_Q8_0}, {"q4_0", GGML_TYPE_Q4_0},
};
const std::map<std::string, llama_ftype, std::less<>> file_types = {
    {"F32", LLAMA_FTYPE_ALL_F32},          {"F16", LLAMA_FTYPE_MOSTLY_F16},   {"BF16", LLAMA_FTYPE_MOSTLY_BF16},
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0},     {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0}, {"Q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
    {"Q4_K_M", LLAMA_FTYPE_MOSTLY_Q4_K_M},
};

/// One loaded model and one context that lives as long as the process, so that its cache is in memory before any
/// timing. Nothing runs between two commands: ggml's threads are asleep, as `cpu_s` of the next reply would show.
class Peer {
 public:
  explicit Peer(const Options& options) : options_(options) {
    model_.reset(llama_model_load_from_file(options.model.c_str(), llama_model_default_params()));
    require(model_ != nullptr, "llama.cpp cannot load " + options.model);
    vocabulary_ = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));

    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(options.context);
    params.n_batch = params.n_ctx;
    params.n_ubatch = static_cast<std::uint32_t>(options.ubatch);
    params.n_threads = params.n_threads_batch = options.threads;
    params.type_k = params.type_v = cache_types.at(options.cache);
    params.flash_attn_type = options.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_.reset(llama_init_from_model(model_.get(), params));
    require(context_ != nullptr, "llama.cpp refuses this context: a quantised cache needs --flash on");
    prefill(64);
    decode(64, 2);
    clear();
  }

  Reply hello() const {
    Reply reply;
    reply.flag("ok", true).text("program", "llama.cpp").text("version", llama_version());
    reply.text("model", options_.model).text("file_type", llama_ftype_name(llama_model_ftype(model_.get())));
    reply.count("weight_bytes", llama_model_size(model_.get())).count("vocabulary", vocabulary_);
    reply.count("threads", options_.threads)
        .count("context", llama_n_ctx(context_.get()))
        .flag("flash", options_.flash);
    return reply.text("kv", options_.cache).count("process", getpid());
  }

  Reply prefill(std::size_t tokens) {
    clear();
    const double taken = seconds_of([&] { extend(tokens); });
    return timed(taken).count("tokens", tokens).number("tokens_per_s", tokens / taken);
  }

  Reply decode(std::size_t history, std::size_t tokens) {
    fits(history + tokens);
    hold(history);
    const double taken = seconds_of([&] {
      for (std::size_t token = 0; token < tokens; ++token) extend(history + token + 1);
    });
    return timed(taken).count("tokens", tokens).count("history", history).number("tokens_per_s", tokens / taken);
  }

  Reply save(std::size_t history, const std::string& path) {
    hold(history);
    const auto tokens = made_up(0, history);
    std::size_t bytes = 0;
    const double taken = seconds_of(
        [&] { bytes = llama_state_seq_save_file(context_.get(), path.c_str(), 0, tokens.data(), tokens.size()); });
    require(bytes > 0, "llama.cpp could not write " + path);
    return timed(taken).count("tokens", history).count("bytes", bytes);
  }

  Reply restore(std::size_t history, std::size_t prompt, const std::string& path) {
    fits(history + prompt);
    drop_from_page_cache(path);
    clear();
    std::vector<llama_token> tokens(options_.context);
    std::size_t count = 0;
    std::size_t bytes = 0;
    const double load = seconds_of([&] {
      bytes = llama_state_seq_load_file(context_.get(), path.c_str(), 0, tokens.data(), tokens.size(), &count);
    });
    if (bytes == 0 || count != history) clear();
    require(bytes > 0, "llama.cpp could not restore from " + path);
    require(count == history, path + " holds another number of tokens: save it again");
    held_ = history;
    const double rest = seconds_of([&] { extend(history + prompt); });
    return timed(load + rest)
        .count("tokens", history)
        .count("prompt", prompt)
        .count("bytes", bytes)
        .number("restore_s", load)
        .number("prompt_s", rest)
        .count("first_token", best(row(-1)).token);
  }

  Reply recompute(std::size_t history, std::size_t prompt) {
    fits(history + prompt);
    clear();
    double before = seconds_of([&] { extend(history); });
    const double rest = seconds_of([&] { extend(history + prompt); });
    return timed(before + rest)
        .count("tokens", history)
        .count("prompt", prompt)
        .number("restore_s", before)
        .number("prompt_s", rest)
        .count("first_token", best(row(-1)).token);
  }

  Reply greedy(std::size_t count, std::vector<llama_token> tokens) {
    fits(tokens.size() + count);
    clear();
    std::string chosen;
    std::string logits;
    const double taken = seconds_of([&] {
      feed(tokens);
      for (std::size_t step = 0; step < count; ++step) {
        const Best top = best(row(-1));
        char pair[64];
        std::snprintf(pair, sizeof pair, "%s[%.9g, %.9g]", step ? ", " : "", top.first, top.second);
        logits += pair;
        chosen += (step ? ", " : "") + std::to_string(top.token);
        if (step + 1 < count) feed({top.token});
      }
    });
    clear();
    return timed(taken).raw("tokens", "[" + chosen + "]").raw("best", "[" + logits + "]");
  }

  Reply logits(const std::string& path, std::vector<llama_token> tokens) {
    fits(tokens.size());
    clear();
    std::ofstream file(path, std::ios::binary);
    require(file.good(), "cannot write " + path);
    llama_batch batch = llama_batch_init(static_cast<int>(tokens.size()), 0, 1);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      batch.token[i] = tokens[i];
      batch.pos[i] = static_cast<llama_pos>(i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = static_cast<int>(tokens.size());
    int status = 0;
    const double taken = seconds_of([&] { status = llama_decode(context_.get(), batch); });
    llama_batch_free(batch);
    require(status == 0, "llama.cpp could not compute these tokens");
    for (std::size_t i = 0; i < tokens.size(); ++i)
      file.write(reinterpret_cast<const char*>(row(static_cast<int>(i))),
                 static_cast<std::streamsize>(4) * vocabulary_);
    file.close();
    clear();
    require(file.good(), "cannot write all of " + path);
    return timed(taken).count("tokens", tokens.size()).count("vocabulary", vocabulary_);
  }

  int vocabulary() const { return vocabulary_; }

 private:
  struct Best {
    llama_token token;
    float first;
    float second;
  };

  static Reply timed(double seconds) { return Reply().flag("ok", true).number("seconds", seconds); }

  void fits(std::size_t tokens) const {
    require(tokens > 0, "at least one token");
    require(tokens <= llama_n_ctx(context_.get()), "longer than the context: start with a larger --context");
  }

  void clear() {
    llama_memory_clear(llama_get_memory(context_.get()), false);
    held_ = 0;
  }

  std::vector<llama_token> made_up(std::size_t begin, std::size_t end) const {
    std::vector<llama_token> tokens;
    for (std::size_t position = begin; position < end; ++position)
      tokens.push_back(made_up_token(position, vocabulary_));
    return tokens;
  }

  /// Runs `tokens` behind what the cache holds; the logits of the last one are there afterwards.
  void feed(std::vector<llama_token> tokens) {
    const auto batch = llama_batch_get_one(tokens.data(), static_cast<int>(tokens.size()));
    require(llama_decode(context_.get(), batch) == 0, "llama.cpp could not compute these tokens");
    llama_synchronize(context_.get());
  }

  /// The cache holds the made-up text up to `length` afterwards.
  void extend(std::size_t length) {
    fits(length);
    feed(made_up(held_, length));
    held_ = length;
  }

  /// The cache holds exactly the first `length` tokens of the made-up text afterwards; computes no more than it must.
  void hold(std::size_t length) {
    fits(length);
    if (held_ > length) {
      require(llama_memory_seq_rm(llama_get_memory(context_.get()), 0, static_cast<llama_pos>(length), -1),
              "llama.cpp cannot shorten this cache");
      held_ = length;
    }
    if (held_ < length) extend(length);
  }

  const float* row(int index) const {
    const float* logits = llama_get_logits_ith(context_.get(), index);
    require(logits != nullptr, "llama.cpp has no logits for this row");
    return logits;
  }

  Best best(const float* logits) const {
    Best found = {0, logits[0], -INFINITY};
    for (llama_token token = 1; token < vocabulary_; ++token) {
      if (logits[token] > found.first) {
        found = {token, logits[token], found.first};
      } else {
        found.second = std::max(found.second, logits[token]);
      }
    }
    return found;
  }

  struct Free {
    void operator()(llama_model* model) const { llama_model_free(model); }
    void operator()(llama_context* context) const { llama_free(context); }
  };

  Options options_;
  std::unique_ptr<llama_model, Free> model_;
  std::unique_ptr<llama_context, Free> context_;
  int vocabulary_ = 0;
  std::size_t held_ = 0;  ///< tokens of the made-up text that the cache holds, from position 0
};

std::size_t count_from(std::istream& words, const char* what) {
  long long value = 0;
  require(static_cast<bool>(words >> value) && value >= 0 && value <= 1'000'000, std::string(what) + " is missing");
  return static_cast<std::size_t>(value);
}

std::string path_from(std::istream& words) {
  std::string path;
  require(static_cast<bool>(words >> path), "a file name is missing");
  return path;
}

std::vector<llama_token> tokens_from(std::istream& words, int vocabulary) {
  std::vector<llama_token> tokens;
  for (std::string word; words >> word;) {
    char* end = nullptr;
    const long id = std::strtol(word.c_str(), &end, 10);
    require(*end == '\0' && id >= 0 && id < vocabulary, "'" + word + "' is not a token id of this model");
    tokens.push_back(static_cast<llama_token>(id));
  }
  require(!tokens.empty(), "token ids are missing");
  return tokens;
}

Reply answer(Peer& peer, const std::string& command, std::istream& words) {
  if (command == "hello") return peer.hello();
  if (command == "prefill") return peer.prefill(count_from(words, "the number of tokens"));
  if (command == "decode") {
    const auto history = count_from(words, "the number of tokens before");
    return peer.decode(history, count_from(words, "the number of tokens"));
  }
  if (command == "save") {
    const auto history = count_from(words, "the number of tokens");
    return peer.save(history, path_from(words));
  }
  if (command == "restore") {
    const auto history = count_from(words, "the length of the history");
    const auto prompt = count_from(words, "the length of the prompt");
    return peer.restore(history, prompt, path_from(words));
  }
  if (command == "recompute") {
    const auto history = count_from(words, "the length of the history");
    return peer.recompute(history, count_from(words, "the length of the prompt"));
  }
  if (command == "greedy") {
    const auto count = count_from(words, "the number of tokens to generate");
    return peer.greedy(count, tokens_from(words, peer.vocabulary()));
  }
  if (command == "logits") {
    const auto path = path_from(words);
    return peer.logits(path, tokens_from(words, peer.vocabulary()));
  }
  throw Refusal("unknown command '" + command + "'");
}

void serve(const Options& options) {
  Peer peer(options);
  std::cout << peer.hello().line() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    if (!(words >> command)) continue;
    if (command == "quit") return;
    Reply reply;
    try {
      const auto before = std::clock();
      reply = answer(peer, command, words);
      if (command != "hello") reply.number("cpu_s", static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC);
    } catch (const Refusal& refusal) {
      reply = Reply().flag("ok", false).text("error", refusal.what());
    }
    std::cout << reply.line() << std::endl;
  }
}

void quantize(const char* from, const char* to, llama_ftype type) {
  auto params = llama_model_quantize_default_params();
  params.ftype = type;
  params.allow_requantize = true;
  require(llama_model_quantize(from, to, &params) == 0, std::string("llama.cpp could not convert ") + from);
}

Options options_from(int count, char** words) {
  Options options;
  require(count > 0, "name a model file");
  options.model = words[0];
  require(count % 2 == 1, "each option takes one value");
  for (int i = 1; i < count; i += 2) {
    const std::string_view option = words[i];
    const std::string value = words[i + 1];
    if (option == "--threads" || option == "--context" || option == "--ubatch") {
      const int number = std::atoi(value.c_str());
      require(number > 0, std::string(option) + " takes a positive number");
      (option == "--threads" ? options.threads : option == "--context" ? options.context : options.ubatch) = number;
    } else if (option == "--flash") {
      require(value == "on" || value == "off", "--flash is on or off");
      options.flash = value == "on";
    } else if (option == "--kv") {
      require(cache_types.contains(value), "--kv is f32, f16, bf16, q8_0 or q4_0");
      options.cache = value;
    } else {
      throw Refusal("unknown option " + std::string(option));
    }
  }
  return options;
}

constexpr const char* usage =
    "llama_peer serve MODEL [--threads T] [--flash on|off] [--kv f16|q8_0|q4_0|...] [--context N] [--ubatch N]\n"
    "llama_peer quantize IN OUT F32|F16|BF16|Q8_0|Q4_0|Q4_1|Q4_K_M\n"
    "llama_peer dequantize IN OUT\n";

}  // namespace

int main(int count, char** words) {
  const std::string_view verb = count > 1 ? words[1] : "";
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  try {
    if (verb == "serve") {
      serve(options_from(count - 2, words + 2));
    } else if (verb == "quantize" && count == 5) {
      const auto type = file_types.find(std::string_view(words[4]));
      require(type != file_types.end(), std::string("unknown file type ") + words[4]);
      quantize(words[2], words[3], type->second);
    } else if (verb == "dequantize" && count == 4) {
      quantize(words[2], words[3], LLAMA_FTYPE_ALL_F32);
    } else {
      std::fputs(usage, stderr);
      return 2;
    }
  } catch (const Refusal& refusal) {
    std::fprintf(stderr, "llama_peer: %s\n", refusal.what());
    return 1;
  }
  llama_backend_free();
}
