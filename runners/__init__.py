if __name__ != "ovmer.runners":
    raise ImportError("this package is imported as ovmer.runners; install the project to use it")
